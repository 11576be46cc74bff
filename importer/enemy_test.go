package importer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/importer"
)

// Files that shall do harm end in an error, or in a file that does none, and soon.
func TestEnemies(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 9), ", ") + "]\n"
	}
	macros := "macros:\n  m0: '" + strings.Repeat("x", 100) + "'\n"
	for i := range 25 {
		n := string(rune('A' + i))
		before := "m0"
		if i > 0 {
			before = string(rune('A' + i - 1))
		}
		macros += "  " + n + ": '${" + before + "}${" + before + "}'\n"
	}
	doubling := "#!/bin/sh\nA=xxxxxxxxxxxxxxxx\n" + strings.Repeat("A=$A$A\n", 40) + "llama-server -m /m.gguf --alias $A\n"
	service := "services:\n  x:\n    image: vllm/vllm-openai:v1\n    command: --model a/b\n"
	for name, c := range map[string]struct{ file, text, want string }{
		"nothing":            {"x.yaml", "", "line 1: the file is empty"},
		"binary":             {"x.service", "[Service]\x00ExecStart=x", "none of the files"},
		"gguf":               {"m.gguf", "GGUF\x03\x00\x00\x00", "it is a model"},
		"not utf-8":          {"compose.yaml", "services:\n  x: {image: \xff}", "not UTF-8"},
		"huge":               {"compose.yaml", strings.Repeat(" ", 1<<20) + service, "larger than 1 MiB"},
		"brackets":           {"compose.yaml", "services: " + strings.Repeat("[", 1<<19), "nested deeper"},
		"cyclic anchor":      {"compose.yaml", "services: &s\n  x: {image: vllm/vllm-openai:v1, labels: *s}\n", "contains itself"},
		"cyclic merge":       {"compose.yaml", "services:\n  x: &x\n    <<: *x\n    image: vllm/vllm-openai:v1\n", "contains itself"},
		"cyclic llama-swap":  {"config.yaml", "models: &m\n  x: {cmd: llama-server -m x, metadata: *m}\n", "contains itself"},
		"bomb":               {"compose.yaml", bomb + service, "excessive aliasing"},
		"bomb of models":     {"config.yaml", bomb + "models: {x: {cmd: llama-server -m x}}\n", "excessive aliasing"},
		"macros that grow":   {"config.yaml", macros + "models: {x: {cmd: 'llama-server ${Y}'}}\n", "more than 256 KiB"},
		"macros in circles":  {"config.yaml", "macros: {a: '${b}', b: '${a}'}\nmodels: {x: {cmd: 'llama-server ${a}'}}\n", "without an end"},
		"variables":          {"x.sh", doubling, "more than 1 MiB"},
		"services of lists":  {"compose.yaml", "services: [a]\n", "no services"},
		"service of text":    {"compose.yaml", "services: {x: text}\n", "cannot understand"},
		"models of numbers":  {"config.yaml", "models: {x: 3}\n", "cannot understand"},
		"models of lists":    {"config.yaml", "models: [a]\n", "cannot understand"},
		"two documents":      {"compose.yaml", service + "---\n" + service, "a second document"},
		"extends in circles": {"compose.yaml", "services:\n  x: {extends: y, image: vllm/vllm-openai:v1}\n  y: {extends: x}\n", "cannot understand"},
		"no ExecStart":       {"x.service", "[Service]\nType=simple\n", "no ExecStart"},
		"open quote":         {"x.service", "[Service]\nExecStart=llama-server \"x\n", "is not closed"},
		"no section":         {"x.service", "[Unit\nExecStart=x\n", "none of the files"},
		"NUL by escape":      {"x.service", "[Service]\nExecStart=llama-server -m a\\x00b\n", "NUL"},
		"long line":          {"x.service", "[Service]\nExecStart=llama-server -m /m.gguf --alias " + strings.Repeat("word ", 3000) + "\n", ""},
		"long word":          {"x.service", "[Service]\nExecStart=llama-server -m /m.gguf --alias " + strings.Repeat("x", 9000) + "\n", "too long"},
		"open quotes":        {"Modelfile", "FROM x\nSYSTEM \"\"\"" + strings.Repeat("x\n", 400_000), "not closed"},
		"no FROM":            {"Modelfile", "PARAMETER num_ctx 1\n", "no FROM"},
		"unknown words":      {"Modelfile", "FROM x\nNONSENSE y\n", "no instruction"},
		"a Dockerfile":       {"Dockerfile", "FROM debian\nRUN apt-get update\n", "it is a Dockerfile"},
		"a pools file":       {"pools.yaml", "pools: []\n", "a pools file already"},
		"a script":           {"x.sh", "#!/bin/bash\necho hello\n", "no engine is started"},
		"deep script":        {"x.sh", "#!/bin/sh\n" + strings.Repeat("(", 1<<19), "nested"},
		"deep words":         {"x.sh", "#!/bin/sh\nllama-server " + strings.Repeat("${a:-", 1<<17), "nested"},
		"deep substitutions": {"x.sh", "#!/bin/sh\nllama-server " + strings.Repeat("\"$(x ", 1<<17), "nested"},
		"deep blocks":        {"x.sh", "#!/bin/sh\n" + strings.Repeat("if x; then ", 10_000), "cannot read it as a shell does"},
		"deep signs":         {"x.sh", "#!/bin/sh\nllama-server -c $((" + strings.Repeat("-", 100_000) + "1?" + strings.Repeat("1:1?", 5000) + "1))", "cannot read it as a shell does"},
		"deep variables":     {"compose.yaml", "services: {x: {image: 'vllm/vllm-openai:v1', command: '--model " + strings.Repeat("${a:-", 1<<17) + "'}}", "nested deeper"},
		"open script":        {"x.sh", "#!/bin/bash\nif true; then\n", "cannot read it as a shell does"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			file, err := importer.Data([]byte(c.text), "/srv/"+c.file)
			if took := time.Since(begin); took > time.Minute { // it is milliseconds; this is about explosions
				t.Errorf("took %v", took)
			}
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := file.YAML(); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if len(err.Error()) > 2000 {
				t.Errorf("%d bytes of an error", len(err.Error()))
			}
		})
	}
}

// Whatever a file holds, a terminal shows text: no sequences, nothing that reorders, no line that was a comment and is none.
func TestHostileText(t *testing.T) {
	t.Parallel()
	evil := "a\\x1b]0;x\\x07\\x1b[2J\\u202Eb\\nc: d"
	for file, text := range map[string]string{
		"compose.yaml": `services: {x: {image: "vllm/vllm-openai:v1", command: ["--model", "a/b", "--x", "` + unescaped(evil) + `"], container_name: "` + unescaped(evil) +
			`", labels: {"` + unescaped(evil) + `": "` + unescaped(evil) + `"}, environment: {A: "` + unescaped(evil) + `"}}}`,
		"config.yaml": `models: {"` + unescaped(evil) + `": {cmd: "llama-server -m '` + unescaped(evil) + `'", name: "` + unescaped(evil) + `", "` + unescaped(evil) + `": 1}}`,
		"x.service":   "[Service]\nExecStart=llama-server -m \"" + evil + "\" --alias \x1b[31mred\u202e\nSyslogIdentifier=\x1b[31mred\u202e\nUser=\x1b]0;x\x07\n",
		"Modelfile":   "FROM ./\x1b[31mred\u202e.gguf\nSYSTEM \x1b[31mred\u202e\nPARAMETER stop \x1b[2J\n",
		"x.sh":        "#!/bin/sh\necho '\x1b[31mred\u202e'\nllama-server -m '/\x1b[31mred\u202e' --alias \"$(echo \x1b[2J)\"\n",
	} {
		imported, err := importer.Data([]byte(text), "/srv/"+file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		out, err := imported.YAML()
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if strings.ContainsAny(string(out)+strings.Join(imported.Notes(), ""), "\x1b\x07\u202e\r\x00") {
			t.Errorf("%s: %q", file, out)
		}
	}
}

// unescaped is a unit's escapes as JSON has them.
func unescaped(s string) string {
	return strings.NewReplacer(`\x1b`, `\u001b`, `\x07`, `\u0007`, `\n`, ` `).Replace(s)
}

// Files that a file names are not read, and that is said.
func TestOtherFilesAreNotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(".env", "MODEL=from/dotenv\nHF_TOKEN=hunter2\n")
	write("other.yaml", "services: {base: {image: 'vllm/vllm-openai:other', command: '--model from/other'}}\n")
	write("labels", "a=from-labels\n")
	write("compose.yaml", `
include: [other.yaml]
services:
  x:
    extends: {file: other.yaml, service: base}
    image: vllm/vllm-openai:v1
    command: --model ${MODEL}
    env_file: .env
    label_file: labels
    environment: [HF_TOKEN]
`)
	write("x.service", "[Service]\nEnvironmentFile="+filepath.Join(dir, ".env")+"\nExecStart=vllm serve ${MODEL}\n")
	for file, told := range map[string][]string{
		"compose.yaml": {"include", "extends other.yaml", "env_file .env was not read", "label_file labels was not read", "${MODEL} has no value"},
		"x.service":    {"EnvironmentFile=", "was not read", "${MODEL} has no value"},
	} {
		imported, err := importer.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		out, err := imported.YAML()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range told {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: want %q in\n%s", file, want, out)
			}
		}
		for _, not := range []string{"from/", "hunter2", "from-labels", ":other"} {
			if strings.Contains(string(out), not) {
				t.Errorf("%s: %q is in\n%s", file, not, out)
			}
		}
	}
	if _, err := importer.ReadFile(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
	if _, err := importer.ReadFile(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}
