package argline_test

import (
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/importer/internal/argline"
)

// read reads a command line of the built-in engines.
func read(args []string, env map[string]string) (*argline.Pool, error) {
	var engines []argline.Engine
	for _, e := range provisioner.Engines() {
		one := argline.Engine{Name: e.Name(), Program: e.Program(engine.Request{})}
		if e, ok := e.(provisioner.EngineWithFlags); ok {
			one.Dialect = e.Dialect()
		}
		engines = append(engines, one)
	}
	return argline.Read(args, env, engines)
}

// yamlOf is a pools file of what was imported, as simple as can be; the package importer writes those for people.
func yamlOf(t testing.TB, p *argline.Pool) []byte {
	t.Helper()
	pool := map[string]any{"id": p.ID, "engine": p.Engine}
	for key, k := range p.Keys {
		pool[key] = k.Value
	}
	text, err := yaml.Marshal(map[string]any{"pools": []any{pool}})
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("# "+strings.Join(p.Notes, "\n# ")+"\n"), text...)
}

func TestRead(t *testing.T) {
	t.Parallel()
	got, err := read(strings.Fields("/venv/bin/vllm serve --max-model-len 4k Qwen/Qwen3-8B --revision main --tool-call-parser hermes --host 0.0.0.0 --port x --ssl-keyfile k"), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &argline.Pool{
		ID: "vllm", Engine: "vllm", Program: []string{"/venv/bin/vllm", "serve"}, Host: "0.0.0.0",
		Keys: map[string]argline.Key{
			"model": {Value: map[string]any{"id": "hf:Qwen/Qwen3-8B@main"}},
			"flags": {Value: []string{"--max-model-len", "4k", "--tool-call-parser", "hermes"}},
			"port":  {Value: 8080, Note: "decide: it stood on the command line as a word that is no port"},
		},
		Notes: []string{"left out: --ssl-keyfile: " + flagline.AdviceTLS},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for args, want := range map[string]string{
		"":             "empty",
		"-c|4096":      "write the program before it",
		"vllm|bench|m": `the subcommand "serve" is missing`,
	} {
		var list []string
		if args != "" {
			list = strings.Split(args, "|")
		}
		if _, err := read(list, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}

// Whatever the program is called, its pool has a name; and nothing that looks like a secret gets into the file.
func TestImportNamesAndSecrets(t *testing.T) {
	t.Parallel()
	server := []string{"--address={host}:{port}"}
	for _, program := range []string{"yes", "null", "123", "1e3", "./.hidden", "日本", "My Server_"} {
		imported, err := read(append([]string{program}, server...), nil)
		if err != nil {
			t.Fatalf("%q: %v", program, err)
		}
		text := yamlOf(t, imported)
		if _, err := provisioner.ParseConfig(text, "pools.yaml"); err != nil {
			t.Errorf("%q:\n%s%v", program, text, err)
		}
	}
	for _, args := range [][]string{
		append([]string{"server", "--api-key", "hunter2"}, server...),
		append([]string{"server", "--auth-token=hunter2"}, server...),
		append([]string{"server", "--store", "postgres://me:hunter2@db/x"}, server...),
		{"sglang", "serve", "--model-path", "a/b", "--admin-api-key", "hunter2"},
		{"llama-server", "-m", "a.gguf", "--alias", "hf_hunter2hunter2hunter2"},
	} {
		imported, err := read(args, map[string]string{"APIKEY": "hunter2", "STORE": "postgres://me:hunter2@db/x", "OWN": "sk-hunter2hunter2hunter2"})
		if err != nil {
			t.Fatal(err)
		}
		text := yamlOf(t, imported)
		if strings.Contains(string(text), "hunter2") || strings.Contains(strings.Join(imported.Notes, ""), "hunter2") {
			t.Errorf("%q:\n%s%q", args, text, imported.Notes)
		}
		if _, err := provisioner.ParseConfig(text, "pools.yaml"); err != nil {
			t.Errorf("%q:\n%s%v", args, text, err)
		}
	}
}

// Where a command line says two things, the pool says what the engine would do.
func TestImportOfContradictions(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"CUDA_VISIBLE_DEVICES=0 llama-server -m a.gguf -ngl 0 --port 8081": "gpu: none",
		"llama-server -m a.gguf -ngl 0 -ngl 99 --port 8081":                `flags: -ngl 99`,
		"llama-server -m a.gguf --port 1 --port 8081":                      "port: 8081",
		"llama-server -m a.gguf -c 1 -cb -c 2 -nocb --port 8081":           "flags: -c 2 -nocb",
		"LLAMA_ARG_CTX_SIZE=1 llama-server -m a.gguf -c 2 --port 8081":     "left out: the variable LLAMA_ARG_CTX_SIZE",
		"LLAMA_ARG_PORT=1 llama-server -m a.gguf --port 8081":              "port: 8081",
		"LLAMA_ARG_MLOCK=1 LLAMA_ARG_DRAFT_MAX=9 llama-server -m a.gguf":   "flags: --draft-max 9 --mlock",
		"LLAMA_ARG_MMAP=0 LLAMA_ARG_MLOCK=0 llama-server -m a.gguf":        "flags: --no-mmap",
		"LLAMA_ARG_MLOCK=1 llama-server -m a.gguf --mlock":                 "flags: --mlock",
		"LLAMA_ARG_WARMUP=1 llama-server -m a.gguf":                        "left out: the variable LLAMA_ARG_WARMUP",
		"llama-server -mu https://huggingface.co/a/b/resolve/main/c.gguf":  "id: hf:a/b/c.gguf",
		"llama-server -mu hf.co/a/b/resolve/v1/d/c.gguf?download=true":     "id: hf:a/b@v1/d/c.gguf",
		"llama-server -m ~/a.gguf --mmproj ~/b.gguf":                       `decide: "~/b.gguf" in flags`,
		"sglang serve --model-path a/b --api-key k":                        "left out: --api-key",
		"vllm serve a/b -cc.custom_ops+ a -cc.custom_ops+=b,c":             "flags: -cc.custom_ops+ a -cc.custom_ops+=b,c",
	} {
		args, env := strings.Fields(line), map[string]string{}
		for strings.Contains(args[0], "=") {
			name, value, _ := strings.Cut(args[0], "=")
			env[name], args = value, args[1:]
		}
		imported, err := read(args, env)
		if err != nil {
			t.Fatal(err)
		}
		text := yamlOf(t, imported)
		if flags, ok := imported.Keys["flags"].Value.([]string); !strings.Contains(string(text), want) && (!ok || want != "flags: "+strings.Join(flags, " ")) {
			t.Errorf("%s:\n%s", line, text)
		}
		if _, err := provisioner.ParseConfig(text, "pools.yaml"); err != nil {
			t.Errorf("%s:\n%s%v", line, text, err)
		}
	}
}
