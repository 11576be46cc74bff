package node

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/test/golden"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
	"github.com/llama-orch/engine-provisioner/settings"
)

// unitConfig is a pools file that was never written.
func unitConfig(t testing.TB, file, text string) *provisioner.Config {
	t.Helper()
	c, err := provisioner.ParseConfig([]byte(text), file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	unitPlain = "pools:\n  - {id: chat, engine: llamacpp, port: 8081, model: {id: /models/chat.gguf}}\n"
	unitFull  = `state_dir: /var/lib/llm
pools:
  - id: chat
    engine: llamacpp
    replicas: 2
    port: 8081
    model: {id: "/mnt/big models/chat.gguf"}
    api_key: {from_env: CHAT_KEY}
    ready: {timeout: 45m}
    stop: {grace: 90s}
  - id: embed
    engine: llamacpp
    port: 8090
    model: {id: embed.gguf}
    env: {PROXY: {from_env: PROXY_URL}}
    ready: {timeout: 1m}
    stop: {grace: 1500ms}
`
)

func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, text string
		spec       UnitSpec
	}{
		"plain":      {"/etc/llm/pools.yaml", unitPlain, UnitSpec{Executable: "/usr/local/bin/engine-provisioner"}},
		"full":       {"/srv/llm/pools.yaml", unitFull, UnitSpec{Name: "llm", Executable: "/usr/local/bin/engine-provisioner"}},
		"user":       {"/home/ann/pools.yaml", unitPlain, UnitSpec{Executable: "/home/ann/go/bin/engine-provisioner", User: true}},
		"odd":        {`/srv/100% "my" $llm\s/it's; pools.yaml`, unitPlain, UnitSpec{Executable: "/opt/a b$c%d/engine-provisioner"}},
		"relative":   {"/etc/llm/pools.yaml", "state_dir: st ate\n" + unitPlain, UnitSpec{Executable: "/usr/bin/engine-provisioner"}},
		"user-state": {"/home/ann/pools.yaml", "state_dir: st\n" + unitPlain, UnitSpec{Executable: "/usr/bin/engine-provisioner", User: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := SystemdUnit(unitConfig(t, c.file, c.text), c.spec)
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, filepath.Join("testdata/systemd", name+".service"), text)
		})
	}
}

func TestSystemdUnitRefuses(t *testing.T) {
	t.Parallel()
	good := UnitSpec{Executable: "/usr/bin/engine-provisioner"}
	for name, c := range map[string]struct {
		file string
		spec UnitSpec
		want string
	}{
		"no file":      {"", good, "from no file"},
		"slash":        {"/etc/pools.yaml", UnitSpec{Name: "a/b", Executable: "/x"}, `"a/b"`},
		"specifier":    {"/etc/pools.yaml", UnitSpec{Name: "a%n", Executable: "/x"}, `"a%n"`},
		"relative":     {"/etc/pools.yaml", UnitSpec{Executable: "bin/x"}, "not absolute"},
		"quote":        {"/etc/pools.yaml", UnitSpec{Executable: `/opt/it's/x`}, "install it elsewhere"},
		"line break":   {"/etc/a\nb/pools.yaml", good, "rename it"},
		"continuation": {`/etc/a\/pools.yaml`, good, "rename it"},
		"not UTF-8":    {"/etc/a\xff/pools.yaml", good, "rename it"},
		"blank":        {"/etc/a /pools.yaml", good, "rename it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := SystemdUnit(unitConfig(t, c.file, unitPlain), c.spec)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if text != "" {
				t.Errorf("a unit beside an error: %q", text)
			}
		})
	}
}

// TestSystemdTakesTheUnit has systemd itself read units, with paths that need every escape.
func TestSystemdTakesTheUnit(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		host.Skip(t, "needs systemd-analyze (Debian: systemd)")
	}
	for name, text := range map[string]string{"plain": unitPlain, "full": unitFull, "relative": "state_dir: st ate\n" + unitPlain} {
		for _, user := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " user"}[user], func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), `100% "my" $llm\s it's; x`)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				bin := filepath.Join(t.TempDir(), "100% a $b; c")
				if err := os.Mkdir(bin, 0o755); err != nil {
					t.Fatal(err)
				}
				executable := filepath.Join(bin, "engine-provisioner")
				if err := os.WriteFile(executable, []byte("#!/bin/sh\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				unit, err := SystemdUnit(unitConfig(t, filepath.Join(dir, "pools.yaml"), text), UnitSpec{Executable: executable, User: user})
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(t.TempDir(), "engine-provisioner.service")
				if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
					t.Fatal(err)
				}
				args := []string{"verify", "--man=no", path}
				if user {
					args = append([]string{"--user"}, args...)
				}
				cmd := exec.CommandContext(t.Context(), analyze, args...)
				cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "HOME="+t.TempDir())
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				if err := cmd.Run(); err != nil || stderr.Len() > 0 {
					t.Errorf("systemd-analyze %s: %v\n%s\n%s", strings.Join(args, " "), err, stderr.String(), unit)
				}
			})
		}
	}
}

// TestUnitGraceIsEnough: where the file says nothing, the unit assumes a grace, which no built-in engine may exceed.
func TestUnitGraceIsEnough(t *testing.T) {
	t.Parallel()
	_, spec, err := provisioner.ProvisionConfig{
		Engine: "llamacpp", Port: 1, GPU: engine.GPUNone, Model: settings.Model{ID: "/m"},
	}.Describe()
	if err != nil {
		t.Fatal(err)
	}
	if spec.Grace > defaultEngineGrace {
		t.Errorf("llamacpp has %s, the unit assumes %s", spec.Grace, defaultEngineGrace)
	}
}

// FuzzSystemdUnit: no path can add a line to a unit.
func FuzzSystemdUnit(f *testing.F) {
	f.Add("/etc/llm/pools.yaml", "/usr/bin/engine-provisioner")
	f.Add("/srv/100% \"my\" $llm\\s/it's; pools.yaml", "/opt/a b$c%d/e")
	f.Add("/a\nExecStartPre=/bin/false\n/x", "/\\")
	want := strings.Count(goldenUnit(f), "\n")
	f.Fuzz(func(t *testing.T, file, executable string) {
		c, err := provisioner.ParseConfig([]byte(unitPlain), file)
		if err != nil || strings.ContainsRune(file, 0) {
			t.Skip()
		}
		text, err := SystemdUnit(c, UnitSpec{Executable: executable})
		if err == nil && strings.Count(text, "\n") != want {
			t.Errorf("%d lines, want %d:\n%s", strings.Count(text, "\n"), want, text)
		}
	})
}

func goldenUnit(f *testing.F) string {
	f.Helper()
	data, err := os.ReadFile("testdata/systemd/plain.service")
	if err != nil {
		f.Fatal(err)
	}
	return string(data)
}

// The unit knows how long a built-in engine may take to stop, and that words are no path to wait for.
func TestUnitOfCustom(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pools.yaml")
	config, err := provisioner.ParseConfig([]byte(`pools:
  - id: ollama
    engine: custom
    port: 8081
    model: {id: "llama3.2:1b"}
    drain: {timeout: 0s}
    custom: {command: [ollama, "{host}", "{port}"], grace: 10m}
`), file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := SystemdUnit(config, UnitSpec{Executable: "/usr/bin/engine-provisioner"})
	if err != nil {
		t.Fatal(err)
	}
	end := 10*time.Minute + proc.KillPatience + 10*time.Second
	for _, want := range []string{"\nTimeoutStopSec=" + seconds(end) + "\n", "\nRequiresMountsFor=" + filepath.Dir(file) + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// Every variable that the file reads is named, wherever that is, and the tokens that it may need.
func TestUnitNamesSecrets(t *testing.T) {
	t.Parallel()
	text, err := SystemdUnit(unitConfig(t, "/etc/llm/pools.yaml", `pools:
  - id: chat
    engine: llamacpp
    port: 8081
    model: {id: "hf:owner/repo/chat.gguf"}
    provisioning: {binary: {release: b11434}}
    api_key: {from_env: CHAT_KEY}
    env: {DB: {from_env: DATABASE_URL}, PLAIN: "from_env"}
    drain:
      hooks:
        - http: {url: "http://127.0.0.1:1/", headers: {Authorization: {from_env: ROUTER_TOKEN}, X: {from_file: key}}}
`), UnitSpec{Executable: "/usr/bin/engine-provisioner"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"mode 0600: CHAT_KEY, DATABASE_URL, ROUTER_TOKEN.\n", "# HF_TOKEN, for a gated", "# GITHUB_TOKEN, for more",
		"\nEnvironmentFile=-%E/engine-provisioner.env\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the unit lacks %q:\n%s", want, text)
		}
	}
	text, err = SystemdUnit(unitConfig(t, "/etc/llm/pools.yaml", unitPlain), UnitSpec{Executable: "/usr/bin/engine-provisioner"})
	if err != nil || strings.Contains(text, "EnvironmentFile") || strings.Contains(text, "_TOKEN") {
		t.Errorf("a file without secrets needs none (%v):\n%s", err, text)
	}
}
