package render_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/unitvalue"
	"github.com/llama-orch/engine-provisioner/render"
	"github.com/llama-orch/engine-provisioner/render/internal/workload"
	"github.com/llama-orch/engine-provisioner/render/kubernetes"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hostile is in every place of a pools file that takes it.
const hostile = "it's \"$HOME\" $(id) `id` %h %n ${X:-y} {{ .V }} \\ # END"

func parse(t testing.TB, text string) *provisioner.Config {
	t.Helper()
	config, err := provisioner.ParseConfig([]byte(text), "/srv/llm/pools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// renderings are all that can be rendered of a configuration.
func renderings(config *provisioner.Config) map[string]func() ([]render.File, error) {
	container := render.ContainerOptions{EngineImage: "localhost/engine:1"}
	return map[string]func() ([]render.File, error){
		"kubernetes": func() ([]render.File, error) {
			return kubernetes.Render(config, kubernetes.Options{EngineImage: "localhost/engine:1"})
		},
		"slurm": func() ([]render.File, error) {
			return render.Slurm(config, render.SlurmOptions{Time: 24 * time.Hour, KillWait: 5 * time.Minute})
		},
		"compose": func() ([]render.File, error) {
			f, err := render.Compose(config, container)
			return []render.File{f}, err
		},
		"quadlet": func() ([]render.File, error) { return render.Quadlet(config, container) },
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/pools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := parse(t, string(data))
	for name, rendered := range renderings(config) {
		files, err := rendered()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range files {
			path := filepath.Join("testdata/golden", name, f.Name)
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(f.Text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || string(want) != f.Text {
				t.Errorf("%s is another (%v): look at it, and run go test ./render -update; now:\n%s", path, err, f.Text)
			}
		}
	}
}

// What is in a pools file stays a value, whatever it is, and the pools file that comes out says the same.
func TestNothingBreaksOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.Just(hostile), rapid.StringMatching(`[ -~]{1,40}`),
			rapid.StringOfN(rapid.SampledFrom([]rune("a \n\t\r%$'\"\\{}#:\x7f\u0085\u009f\ufeffé")), 1, 12, -1)).Draw(t, "text")
		config := map[string]any{"pools": []any{map[string]any{
			"id": rapid.StringMatching(`[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?`).Draw(t, "id"), "engine": "custom", "port": 8080, "expose": "open",
			"host": "0.0.0.0", "gpu": "none", "replicas": rapid.IntRange(1, 3).Draw(t, "replicas"),
			"model":  map[string]any{"id": "a model"},
			"flags":  []string{text, "--x=" + text},
			"env":    map[string]any{"A": text},
			"custom": map[string]any{"command": []string{"serve", "--port={port}", text}},
		}}}
		data, err := workload.YAML(config)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := provisioner.ParseConfig([]byte(data), "/srv/llm's $folder/pools.yaml")
		if err != nil {
			t.Skip(err) // such as what stands for a path
		}
		for name, rendered := range renderings(parsed) {
			files, err := rendered()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			again, _ := renderings(parsed)[name]()
			for i, f := range files {
				if f.Text != again[i].Text {
					t.Fatalf("%s is rendered in two ways", f.Name)
				}
				readBack(t, name, f, parsed.Pools[0])
			}
		}
	})
}

// readBack reads the pools file in what was rendered by other means than it was written by.
func readBack(t *rapid.T, name string, f render.File, want provisioner.Pool) {
	var file string
	switch {
	case name == "kubernetes":
		for doc := range strings.SplitSeq(f.Text, "\n---\n") {
			var object struct {
				Kind string            `json:"kind"`
				Data map[string]string `json:"data"`
			}
			if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
				t.Fatalf("%v: %s", err, doc)
			}
			if object.Kind == "ConfigMap" {
				file = object.Data["pools.yaml"]
			}
		}
	case name == "compose":
		var doc struct {
			Configs map[string]struct {
				Content string `json:"content"`
			} `json:"configs"`
		}
		if err := yaml.Unmarshal([]byte(f.Text), &doc); err != nil {
			t.Fatal(err)
		}
		for _, c := range doc.Configs {
			file = strings.ReplaceAll(c.Content, "$$", "$")
		}
	case name == "slurm":
		// The shell itself, with a command in the place of ours that shows what it is given.
		script := strings.NewReplacer("cd ", ": cd ", "exec engine-provisioner", "exec sh -c 'cat; echo; echo \"$@\"' sh").Replace(f.Text)
		cmd := exec.Command("bash", "-c", script)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SLURM_ARRAY_JOB_ID=7", "SLURM_ARRAY_TASK_ID=1"}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Fatalf("%v: %s\n%s", err, stderr.String(), script)
		}
		file = string(out[:bytes.LastIndex(bytes.TrimSpace(out), []byte("\n"))])
	case strings.HasSuffix(f.Name, ".pools.yaml"):
		file = f.Text
	default: // a unit: each value is words
		for line := range strings.Lines(f.Text) {
			if _, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
				if _, err := unitvalue.Words(value); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
			}
		}
		return
	}
	config, err := provisioner.ParseConfig([]byte(file), "pools.yaml")
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, file)
	}
	got := config.Pools[0]
	if fmt.Sprint(got.Flags, got.Env, got.Custom.Command) != fmt.Sprint(want.Flags, want.Env, want.Custom.Command) {
		t.Fatalf("%s: %v %v %v, was %v %v %v", name, got.Flags, got.Env, got.Custom.Command, want.Flags, want.Env, want.Custom.Command)
	}
}

// What cannot work there is an error that names the way.
func TestWhatCannotWork(t *testing.T) {
	t.Parallel()
	pool := func(more string) string {
		return "pools:\n  - {id: a, engine: llamacpp, port: 8080, gpu: none, model: {id: m.gguf}" + more + "}\n"
	}
	for text, want := range map[string]string{
		pool(""):               "kubernetes: nothing says which image has the engine; use mode \"container\", or name one with --engine-image",
		pool(", expose: open"): "kubernetes: nothing says which image has the engine",
		pool(", provisioning: {mode: container}"):                                                                  "kubernetes: others reach it there: add an \"api_key\"",
		pool(", provisioning: {mode: source, source: {repo: 'https://example.com/x.git', ref: b1}}"):               "compose: mode \"source\" builds on the node",
		pool(", provisioning: {binary: {path: ./bin/llama-server}}"):                                               "quadlet: \"provisioning.binary.path\" is relative",
		pool(", provisioning: {mode: container} "):                                                                 "slurm: a container's runtime starts it outside of the task",
		strings.Replace(pool(", expose: open, host: 0.0.0.0, provisioning: {mode: container}"), "8080", "9464", 1): "kubernetes: its port 9464 is the manager's own there",
		pool(", stop: {grace: 20s}"):                                                                               "slurm: its stop.grace does not fit into the 30s",
		"pools:\n  - {id: a_b, engine: llamacpp, port: 8080, gpu: none, model: {id: m.gguf}}\n" +
			"  - {id: a-b, engine: llamacpp, port: 8081, gpu: none, model: {id: m.gguf}}\n": "slurm: it would be named \"a-b\", as pool \"a_b\" is",
	} {
		where, what, _ := strings.Cut(want, ": ")
		config := parse(t, text)
		var err error
		switch where {
		case "kubernetes":
			_, err = kubernetes.Render(config, kubernetes.Options{})
		case "slurm":
			_, err = render.Slurm(config, render.SlurmOptions{})
		case "compose":
			_, err = render.Compose(config, render.ContainerOptions{})
		case "quadlet":
			_, err = render.Quadlet(config, render.ContainerOptions{})
		}
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v, want %q", text, err, what)
		}
	}
}

// What flags say is checked as what a pools file says.
func TestWhatFlagsCannotSay(t *testing.T) {
	t.Parallel()
	config := parse(t, "pools: [{id: a, engine: llamacpp, port: 8080, gpu: none, expose: open, host: 0.0.0.0, model: {id: m.gguf}}]")
	stdin, err := provisioner.ParseConfig([]byte("pools: [{id: a, engine: llamacpp, port: 8080, gpu: none, model: {id: m.gguf}}]"), "")
	if err != nil {
		t.Fatal(err)
	}
	const image = "localhost/e:1\nPodmanArgs=--privileged"
	for want, rendered := range map[string]func() error{
		"--engine-image is": func() error {
			_, err := render.Quadlet(config, render.ContainerOptions{EngineImage: image})
			return err
		},
		"--image is": func() error {
			_, err := kubernetes.Render(config, kubernetes.Options{EngineImage: "localhost/e:1", Image: image})
			return err
		},
		"--executable is": func() error {
			_, err := render.Quadlet(config, render.ContainerOptions{EngineImage: "localhost/e:1", Executable: "/a:b"})
			return err
		},
		"give it more than": func() error {
			_, err := render.Slurm(config, render.SlurmOptions{Time: 30 * time.Second})
			return err
		},
		"is in no folder": func() error {
			_, err := render.Compose(stdin, render.ContainerOptions{EngineImage: "localhost/e:1"})
			return err
		},
		"no text; rename it": func() error {
			bad := *config
			bad.Pools = []provisioner.Pool{config.Pools[0]}
			bad.Pools[0].Dir = "/srv/\xff"
			_, err := render.Compose(&bad, render.ContainerOptions{EngineImage: "localhost/e:1"})
			return err
		},
	} {
		if err := rendered(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
