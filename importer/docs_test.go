package importer_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/kballard/go-shellquote"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/importer"
	"github.com/llama-orch/engine-provisioner/internal/test/golden"
)

var (
	shownFile = regexp.MustCompile("(?s)\n`([^`\n]+)`:\n\n```\\w+\n(.*?)```\n")
	shownRun  = regexp.MustCompile("(?s)```console\n\\$ engine-provisioner import ([^\n]*)\n(.*?)```\n")
)

// What the page shows is what the command prints.
func TestDocsImport(t *testing.T) {
	t.Parallel()
	const page = "../docs/import.md"
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, m := range shownFile.FindAllStringSubmatch(string(data), -1) {
		files[m[1]] = m[2]
	}
	runs := 0
	now := shownRun.ReplaceAllStringFunc(string(data), func(block string) string {
		runs++
		m := shownRun.FindStringSubmatch(block)
		var file *importer.File
		var err error
		if line, ok := strings.CutPrefix(m[1], "-- "); ok {
			args, splitErr := shellquote.Split(line)
			if splitErr != nil {
				t.Fatal(splitErr)
			}
			file, err = importer.Args(args, nil)
		} else if text, ok := files[m[1]]; ok {
			file, err = importer.Data([]byte(text), "/srv/llm/"+m[1])
		} else {
			t.Fatalf("%s shows no file %s", page, m[1])
		}
		if err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		out, err := file.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if string(out) != m[2] && !golden.Updating() {
			t.Errorf("%s: %s\ngot\n%s\nwant\n%s", page, m[1], out, m[2])
		}
		if _, err := provisioner.ParseConfig(out, "pools.yaml"); err != nil && m[1] != "serve.sh" {
			t.Errorf("%s: %v", m[1], err)
		}
		return "```console\n$ engine-provisioner import " + m[1] + "\n" + string(out) + "```\n"
	})
	if runs < 7 || len(files) < 5 {
		t.Errorf("%d runs of %d files", runs, len(files))
	}
	if golden.Updating() {
		if err := os.WriteFile(page, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
