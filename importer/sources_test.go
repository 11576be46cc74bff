package importer_test

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/llama-orch/engine-provisioner/importer"
	"github.com/llama-orch/engine-provisioner/settings"
)

// fieldArgs are the command lines that people use, by their names.
func fieldArgs(t *testing.T) map[string][]string {
	t.Helper()
	file, err := os.Open("internal/argline/testdata/field/flags.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows := csv.NewReader(file)
	rows.Comma, rows.LazyQuotes, rows.FieldsPerRecord = '\t', true, -1
	all, err := rows.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string][]string{
		"llamacpp": {"llama-server"}, "vllm": {"vllm", "serve"}, "sglang": {"python3", "-m", "sglang.launch_server"},
		"tgi": {"text-generation-launcher"},
	}
	lines := map[string][]string{}
	for _, row := range all[1:] {
		var args []string
		if err := json.Unmarshal([]byte(row[2]), &args); err != nil {
			t.Fatalf("%s: %v", row[0], err)
		}
		if len(args) > 0 && args[0] == "serve" {
			args = args[1:]
		}
		lines[row[0]] = append(append([]string{}, programs[row[1]]...), args...)
	}
	if len(lines) < 50 {
		t.Fatalf("%d lines", len(lines))
	}
	return lines
}

// onePool is what an imported file says, as the provisioner reads it; notes stand for what it refuses.
func onePool(t *testing.T, file *importer.File, err error) map[string]any {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	text, err := file.YAML()
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Pools []map[string]any `json:"pools"`
	}
	if err := yaml.Unmarshal(text, &read); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	if len(read.Pools) != 1 {
		t.Fatalf("%d pools:\n%s", len(read.Pools), text)
	}
	return read.Pools[0]
}

// A command line says the same wherever it stands.
func TestSourcesAgree(t *testing.T) {
	t.Parallel()
	shell := func(args []string, between string) string {
		var words []string
		for _, arg := range args {
			words = append(words, "'"+strings.ReplaceAll(arg, "'", `'\''`)+"'")
		}
		return strings.Join(words, between)
	}
	systemd := func(args []string) string {
		var words []string
		for _, arg := range args {
			quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "%", "%%", "$", "$$").Replace(arg)
			words = append(words, `"`+quoted+`"`)
		}
		return strings.Join(words, " \\\n  ")
	}
	asJSON := func(value any) string {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for id, args := range fieldArgs(t) {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			direct, err := importer.Args(args, nil)
			want := onePool(t, direct, err)
			sources := map[string]string{
				"x.sh":             "#!/bin/sh\nset -e\nexec " + shell(args, " \\\n  ") + "\n",
				"x.service":        "[Service]\nRestart=always\nExecStart=" + systemd(args) + "\n",
				"config.yaml":      asJSON(map[string]any{"models": map[string]any{"x": map[string]any{"cmd": shell(args, "\n")}}}),
				"folded.yaml":      "models:\n  x:\n    cmd: |\n      # it's a comment\n      " + strings.ReplaceAll(shell(args, "  \\\n      "), "\n\n", "\n") + "\n",
				"shell.yaml":       asJSON(map[string]any{"models": map[string]any{"x": map[string]any{"cmd": "bash -c " + shell([]string{"exec " + shell(args, " ")}, " ")}}}),
				"compose.yaml":     asJSON(map[string]any{"services": map[string]any{"x": composeService(args)}}),
				"with-wrapper.yml": asJSON(map[string]any{"models": map[string]any{"x": map[string]any{"cmd": "nice -n 5 numactl --cpunodebind=0 env A=1 " + shell(args, " ")}}}),
			}
			if strings.Contains(strings.Join(args, ""), "\n") {
				delete(sources, "folded.yaml") // its lines would not be indented
			}
			for name, text := range sources {
				file, err := importer.Data([]byte(text), "/srv/"+name)
				if err != nil {
					t.Errorf("%s: %v\n%s", name, err, text)
					continue
				}
				got := onePool(t, file, nil)
				for _, key := range []string{"engine", "flags", "api_key", "model", "port"} {
					if name == "compose.yaml" && (key == "port" || key == "model") { // the port is the host's, and so are paths
						continue
					}
					if !reflect.DeepEqual(got[key], want[key]) {
						t.Errorf("%s: %s: got  %v\nwant %v\n%s", name, key, got[key], want[key], text)
					}
				}
			}
		})
	}
}

func composeService(args []string) map[string]any {
	command := make([]string, len(args))
	for i, arg := range args {
		command[i] = strings.ReplaceAll(arg, "$", "$$")
	}
	return map[string]any{"image": "example/engine:1", "entrypoint": []string{}, "command": command, "gpus": "all"}
}

// What has been imported reads back as it is: no line of YAML means something else.
func TestWrittenWordsReadBack(t *testing.T) {
	t.Parallel()
	for _, words := range [][]string{
		{"--a", "plain"},
		{"--a", "# no comment", ": no key", "- no list", "{no: map}", "*no", "&no", "!no", "%no", "@no", "`no"},
		{"--a", "'", `"`, `\`, "''", `"'"`, "$HOME", "$(x)", "a;b", "~", "*"},
		{"--a", "", " ", "  two  blanks  ", "tab\there", "line\nbreak", "null", "true", "1e3"},
		{"--a", "日本", "é", "\u200b", "\u202e", "\ufeff", "\x7f", "\x1b[31m"},
		{"--json", `{"a": {"b": ["c", "d"], "e": "it's"}}`},
		{"--a", strings.Repeat("x", 300), "--b", strings.Repeat("y ", 100), "--c"},
	} {
		file, err := importer.Args(append([]string{"llama-server", "-m", "/m.gguf", "--port", "8081", "-ngl", "1"}, words...), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := file.YAML()
		if err != nil {
			t.Fatal(err)
		}
		var read struct{ Pools []map[string]any }
		if err := yaml.Unmarshal(text, &read); err != nil {
			t.Errorf("%q: %v\n%s", words, err, text)
			continue
		}
		value, err := json.Marshal(read.Pools[0]["flags"])
		if err != nil {
			t.Fatal(err)
		}
		var got settings.Flags
		if err := json.Unmarshal(value, &got); err != nil {
			t.Errorf("%q: %v\n%s", words, err, text)
		}
		if want := append([]string{"-ngl", "1"}, words...); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q\n%s", got, want, text)
		}
	}
}
