package importer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// whole checks what must hold of any file that is made.
func whole(t *testing.T, file *File, err error) {
	t.Helper()
	if err != nil {
		return
	}
	text, err := file.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(string(text), func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) }) {
		t.Errorf("%q", text)
	}
	if _, err := provisioner.ParseConfig(text, "pools.yaml"); err != nil && strings.Contains(err.Error(), "cannot read this as YAML") {
		t.Errorf("%v\n%s", err, text)
	}
}

func FuzzData(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil && !strings.HasSuffix(name, ".golden") {
			f.Add(data, filepath.Base(name))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		file, err := Data(data, "/srv/"+name)
		whole(t, file, err)
	})
}

func FuzzShell(f *testing.F) {
	f.Add("A=1; export B=$A; (cd /x && exec nice -n 5 llama-server -m \"$A\" ${B:-${A}} \"${C[@]}\" $'\\t' $(x)) 2>&1 &")
	f.Add("f() { vllm serve a/b \"$@\"; }; for i in 1 2; do f; done")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Args([]string{"bash", "-c", text}, nil)
		whole(t, file, err)
	})
}
