package importer_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/importer"
	"github.com/llama-orch/engine-provisioner/internal/test/golden"
)

// undecided are pools files that cannot be right before somebody has decided, and what "validate" says of them.
var undecided = map[string][]string{
	"script-of-vllm.yaml":              {"has no {host}"},
	"wrapper-env-only.yaml":            {"has no {host} and no {port}"},
	"vllm-script.service":              {"has no {host} and no {port}"},
	"serve.sh":                         {`"--threads" takes a number`},
	"llama-specifiers-envfile.service": {"${MODEL_PATH} is not expanded", `"-ngl" takes a whole number`, `"--ctx-size" takes a number`, "a value too many"},
	"vllm-own-entrypoint.yaml":         {"${VLLM_MODEL} is not expanded"},
	"env-macros-matrix.yaml":           {"${env.MODELS} is not expanded", "${env.PREFIX} is not expanded"},
}

// TestGolden imports files of the shapes that people have: each key of them was found in public, and the texts are ours.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".golden") || strings.HasPrefix(file, "testdata/fuzz/") {
			continue
		}
		seen++
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		imported, err := importer.Data(data, "/srv/llm/"+filepath.Base(file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		text, err := imported.YAML()
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		golden.Check(t, file+".golden", string(text))
		if strings.Contains(string(text)+strings.Join(imported.Notes(), ""), "hunter2") {
			t.Errorf("%s: a secret is in\n%s", file, text)
		}
		_, err = provisioner.ParseConfig(text, "pools.yaml")
		var wrong *provisioner.ConfigError
		if errors.As(err, &wrong) {
			for _, p := range wrong.Problems {
				if !slices.ContainsFunc(undecided[filepath.Base(file)], func(s string) bool { return strings.Contains(p.Message, s) }) {
					t.Errorf("%s: %s: %s\n%s", file, p.Key, p.Message, text)
				}
			}
		} else if undecided[filepath.Base(file)] != nil {
			t.Errorf("%s: nothing is undecided any more", file)
		}
	}
	if seen < 34 {
		t.Errorf("%d files", seen)
	}
}
