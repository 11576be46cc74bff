package provisioner

import (
	"strings"
	"testing"
)

func TestImportArgs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{
			"llama-server|-hf|a/b:Q4_K_M|-c|8192|--port|8080|-ngl|99",
			`pools:
  - id: llamacpp
    engine: llamacpp
    port: 8080
    model:
      id: hf:a/b:Q4_K_M
    flags: -c 8192 -ngl 99
`,
		},
		{
			"CUDA_VISIBLE_DEVICES=1,0|HF_TOKEN=hf_s3cret|exec|/opt/bin/llama-server|--host|0.0.0.0|--api-key|s3cret|-m|/m.gguf|--log-file|x.log|--alias|two words",
			`pools:
  # it listened on "0.0.0.0", for other machines, too: here on 127.0.0.1 alone; for others write "host: 0.0.0.0", "expose: true" and an api_key
  # left out: --log-file: the provisioner keeps the log and reads the causes of failures from it; remove the flag
  - id: llamacpp
    engine: llamacpp
    # decide: none was named; this is the engine's own
    port: 8080
    model:
      id: /m.gguf
    flags: --alias 'two words'
    env:
      HF_TOKEN:
        from_env: HF_TOKEN
    # the key that stood on the command line: put it into this variable
    api_key:
      from_env: ENGINE_API_KEY
    # indexes count in PCI bus order here, as nvidia-smi has them
    devices:
    - 1
    - 0
    provisioning:
      binary:
        path: /opt/bin/llama-server
`,
		},
		{
			"vllm|serve|--max-model-len|4k|Qwen/Qwen3-8B|--revision|main|--tool-call-parser|hermes",
			`pools:
  - id: vllm
    engine: vllm
    # decide: none was named; this is the engine's own
    port: 8000
    model:
      id: hf:Qwen/Qwen3-8B@main
    flags: --max-model-len 4k --tool-call-parser hermes
`,
		},
		{
			"LLAMA_ARG_MODEL=/m.gguf|LLAMA_ARG_PORT=9000|LLAMA_ARG_CTX_SIZE=4096|CUDA_VISIBLE_DEVICES=-1|llama-server|-ngl|0",
			`pools:
  - id: llamacpp
    engine: llamacpp
    port: 9000
    model:
      id: /m.gguf
    env:
      LLAMA_ARG_CTX_SIZE: "4096"
    gpu: none
`,
		},
	} {
		imported, err := ImportArgs(strings.Split(tt.args, "|"), nil)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		text, err := imported.YAML()
		if err != nil || string(text) != tt.want {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", tt.args, err, text, tt.want)
		}
		if strings.Contains(string(text), "s3cret") {
			t.Error("a secret is in the file")
		}
		if _, err := ParseConfig(text, "pools.yaml"); err != nil {
			t.Errorf("%s: %v", tt.args, err)
		}
	}
	for args, want := range map[string]string{
		"":              "empty",
		"-c|4096":       "write the program before it",
		"vllm|bench|m":  `the subcommand "serve" is missing`,
		"env|A=1|nohup": "empty",
	} {
		var list []string
		if args != "" {
			list = strings.Split(args, "|")
		}
		if _, err := ImportArgs(list, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}

// Whatever the program is called, its pool has a name; and nothing that looks like a secret gets into the file.
func TestImportNamesAndSecrets(t *testing.T) {
	t.Parallel()
	server := []string{"--address={host}:{port}"}
	for _, program := range []string{"yes", "null", "123", "1e3", "./.hidden", "日本", "My Server_"} {
		imported, err := ImportArgs(append([]string{program}, server...), nil)
		if err != nil {
			t.Fatalf("%q: %v", program, err)
		}
		text, err := imported.YAML()
		if err != nil {
			t.Fatalf("%q: %v", program, err)
		}
		if _, err := ParseConfig(text, "pools.yaml"); err != nil {
			t.Errorf("%q:\n%s%v", program, text, err)
		}
	}
	for _, args := range [][]string{
		append([]string{"server", "--api-key", "hunter2"}, server...),
		append([]string{"server", "--auth-token=hunter2"}, server...),
		append([]string{"server", "--store", "postgres://me:hunter2@db/x"}, server...),
		{"APIKEY=hunter2", "STORE=postgres://me:hunter2@db/x", "llama-server", "-m", "a.gguf", "--port", "8081"},
	} {
		imported, err := ImportArgs(args, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := imported.YAML()
		if err != nil || strings.Contains(string(text), "hunter2") {
			t.Errorf("%q (%v):\n%s", args, err, text)
		}
		if _, err := ParseConfig(text, "pools.yaml"); err != nil {
			t.Errorf("%q:\n%s%v", args, text, err)
		}
	}
}

// Where a command line says two things, the pool says what the engine would do.
func TestImportOfContradictions(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"CUDA_VISIBLE_DEVICES=0 llama-server -m a.gguf -ngl 0 --port 8081": "gpu: none",
		"llama-server -m a.gguf -ngl 0 -ngl 99 --port 8081":                "flags: -ngl 99",
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
		imported, err := ImportArgs(strings.Fields(line), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := imported.YAML()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s (%v):\n%s", line, err, text)
		}
		if _, err := ParseConfig(text, "pools.yaml"); err != nil {
			t.Errorf("%s:\n%s%v", line, text, err)
		}
	}
}
