package provisioner

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
)

// launchCase is a configuration and a host, whose launch a golden file holds.
type launchCase struct {
	name  string
	model string // "local:/models/chat" when left out
	flags []string
	env   map[string]EnvValue
	host  engine.Host
	cfg   func(*ProvisionConfig) // what else is different
}

func (c launchCase) config(e Engine) ProvisionConfig {
	cfg := ProvisionConfig{
		PoolID: "chat", ReplicaID: "r0", Engine: e.Name(), Port: 8081, Model: ModelConfig{ID: "local:/models/chat"},
		Flags: c.flags, Env: c.env,
	}
	if c.model != "" {
		cfg.Model.ID = c.model
	}
	if c.cfg != nil {
		c.cfg(&cfg)
	}
	return cfg.WithDefaults()
}

func testDialect(name string) *flagline.Dialect {
	o := newOptions(nil)
	return o.dialect(name)
}

// testLaunches compares the launches of an engine with testdata/ENGINE/launches/*.txt, and refusals with
// testdata/ENGINE/badflags/*.txt.
func testLaunches(t *testing.T, e Engine, cases []launchCase, folder string) {
	t.Helper()
	dir := filepath.Join("testdata", e.Name(), folder)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec, err := launchOf(e, tt.config(e), tt.host)
			var bad *ConfigError
			if folder == "badflags" {
				if !errors.As(err, &bad) {
					t.Fatalf("got %v, want a *ConfigError", err)
				}
				if strings.Contains(err.Error(), "s3cret") {
					t.Errorf("the message tells a secret: %v", err)
				}
				golden(t, filepath.Join(dir, tt.name+".txt"), err.Error()+"\n")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(dir, tt.name+".txt"), specText(spec))
		})
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		if !slices.ContainsFunc(cases, func(c launchCase) bool { return c.name == name }) {
			t.Errorf("%s belongs to no test", f)
		}
	}
}

// specText is a launch for people: what it runs and how it is questioned.
func specText(spec engine.LaunchSpec) string {
	var b strings.Builder
	for _, f := range spec.Flags {
		line := fmt.Sprintf("%-55s %-12s %-14s %s", strings.Join(f.Args, " "), f.Origin, f.Key, f.Note)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	b.WriteString("\n")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	line("env", "%v, key in %q", spec.Env, spec.KeyEnv)
	line("health", "%s, takes %s", spec.Health, spec.HealthTakes)
	line("version", "%s %s", spec.Version.Path, spec.Version.Key)
	line("model", "%s %s", spec.Model.Path, spec.Model.Key)
	line("ports", "%v", spec.Ports)
	line("context", "%d", spec.Context)
	if spec.Metrics != nil {
		line("metrics", "%s %s", spec.Metrics.Path, strings.Join(spec.Metrics.Required, " "))
	}
	if spec.Gauges != nil {
		line("gauges", "%s %s", spec.Gauges.Path, strings.Join(spec.Gauges.Names, " "))
	}
	if spec.Counters != nil {
		line("counters", "%s %s", spec.Counters.Path, strings.Join(spec.Counters.Names, " "))
	}
	if spec.SleepsIdle {
		line("sleeps", "when idle; metrics wake it: %v", spec.MetricsWake)
	}
	if spec.Answer != nil {
		line("answer", "%s %s", spec.Answer.Path, spec.Answer.Body)
	}
	line("grace", "%s, while loading %s, kills itself: %v, drains itself: %v", spec.Grace, spec.LoadGrace, spec.KillsItself, spec.DrainsItself)
	return b.String()
}

// testCauses classifies all of testdata/ENGINE/logs, whose names begin with the cause.
func testCauses(t *testing.T, e Engine) {
	t.Helper()
	spec, err := launchOf(e, launchCase{}.config(e), engine.Host{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("testdata", e.Name(), "logs", "*.log"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d logs, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		cause, evidence := causeIn(lines, spec.Causes)
		if !strings.HasPrefix(filepath.Base(file), string(cause)) || evidence == "" {
			t.Errorf("%s: got %q by %q", file, cause, evidence)
		}
	}
}

func BenchmarkLaunch(b *testing.B) {
	for name, e := range map[string]Engine{"llamacpp": llamacpp.Engine{}, "vllm": vllm.Engine{}, "sglang": sglang.Engine{}} {
		host := map[string]func(testing.TB) engine.Host{"llamacpp": realHost, "vllm": vllmHost, "sglang": sglangHost}[name](b)
		cfg := launchCase{flags: []string{"--seed", "1"}}.config(e)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := launchOf(e, cfg, host); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestSpecIsRecorded checks that whoever adopts an engine finds in the record all that is asked of it later on.
func TestSpecIsRecorded(t *testing.T) {
	t.Parallel()
	beforeTheStart := []string{"Flags", "Env", "GGUF"}
	for _, e := range []Engine{llamacpp.Engine{}, vllm.Engine{}, sglang.Engine{}, tgi.Engine{}} {
		spec, err := launchOf(e, launchCase{}.config(e), engine.Host{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		var read engine.LaunchSpec
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(read); err != nil || string(again) != string(text) {
			t.Errorf("%s: read again, it is %s (%v)", e.Name(), again, err)
		}
		before, after := reflect.ValueOf(spec), reflect.ValueOf(read)
		for i := range before.NumField() {
			if before.Field(i).IsZero() {
				continue
			}
			name, lost := before.Type().Field(i).Name, after.Field(i).IsZero()
			if lost != slices.Contains(beforeTheStart, name) {
				t.Errorf("%s: %s is lost: %v", e.Name(), name, lost)
			}
		}
	}
}
