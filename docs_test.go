package provisioner_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/settings"
)

// documents are all texts for people, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in docs: %v", err)
	}
	files = append(files, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RELIABILITY.md", "BENCHMARKS.md")
	texts := map[string]string{}
	for _, f := range files {
		texts[f] = readFile(t, f)
	}
	return texts
}

// section is the part of a document below a heading.
func section(t *testing.T, file, heading string) string {
	t.Helper()
	_, text, found := strings.Cut(readFile(t, file), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no section %q", file, heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// firstColumn is what stands in backquotes in the first column of a section's tables.
func firstColumn(text string) map[string]bool {
	words := map[string]bool{}
	quoted := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			words[m[1]] = true
		}
	}
	return words
}

// wantSame fails the test when a table and the code name different things.
func wantSame(t *testing.T, where string, table map[string]bool, code []string) {
	t.Helper()
	if len(code) == 0 {
		t.Fatalf("%s: nothing to look for", where)
	}
	known := map[string]bool{}
	for _, name := range code {
		known[name] = true
		if !table[name] {
			t.Errorf("%s: %q is missing; add a row for it", where, name)
		}
	}
	for name := range table {
		if !known[name] {
			t.Errorf("%s: %q is not in the code any more; remove it", where, name)
		}
	}
}

func TestDocsNameEveryConfigurationKey(t *testing.T) {
	t.Parallel()
	var schema struct {
		Defs map[string]struct {
			Properties map[string]json.RawMessage `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(readFile(t, "config.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	ref := regexp.MustCompile(`^\{\s*"\$ref": "#/\$defs/(\w+)"`)
	var keys []string
	var walk func(def, prefix string)
	walk = func(def, prefix string) {
		for key, value := range schema.Defs[def].Properties {
			keys = append(keys, prefix+key)
			if m := ref.FindSubmatch(value); m != nil {
				walk(string(m[1]), prefix+key+".")
			}
		}
	}
	walk("Config", "")
	walk("Pool", "")
	walk("DrainHook", "drain.hooks[].")
	wantSame(t, "docs/configuration.md", firstColumn(readFile(t, "docs/configuration.md")), keys)
}

func TestDocsNameEveryHandoffKey(t *testing.T) {
	t.Parallel()
	var keys []string
	var walk func(of reflect.Type, prefix string)
	walk = func(of reflect.Type, prefix string) {
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			switch {
			case inner == reflect.TypeFor[settings.SecretRef]():
				keys = append(keys, prefix+name) // its two keys stand in the row's text
			case inner.PkgPath() == of.PkgPath() && inner.Kind() == reflect.Struct:
				walk(inner, prefix+name+".")
			default:
				keys = append(keys, prefix+name)
			}
		}
	}
	walk(reflect.TypeFor[provisioner.Handoff](), "")
	wantSame(t, "docs/handoff.md", firstColumn(readFile(t, "docs/handoff.md")), keys)
}

func TestDocsNameEveryEventKey(t *testing.T) {
	t.Parallel()
	var keys []string
	of := reflect.TypeFor[provisioner.Event]()
	for i := range of.NumField() {
		if name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ","); name != "-" {
			keys = append(keys, name)
		}
	}
	wantSame(t, "docs/operations.md, Events", firstColumn(section(t, "docs/operations.md", "Events")), keys)
}

func TestDocsNameEveryCause(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "engine/cause.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var causes []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Cause" {
			cause, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			causes = append(causes, cause)
		}
		return true
	})
	wantSame(t, "docs/troubleshooting.md, Causes", firstColumn(section(t, "docs/troubleshooting.md", "Causes")), causes)
}

func TestDocsNameEveryExitStatus(t *testing.T) {
	t.Parallel()
	consts := regexp.MustCompile(`(?m)^\texit\w+ += (\d+)`).FindAllStringSubmatch(readFile(t, "cmd/engine-provisioner/exit.go"), -1)
	codes := []string{"0"}
	for _, m := range consts {
		codes = append(codes, m[1])
	}
	if len(codes) < 7 {
		t.Fatalf("exit statuses in the code: %v", codes)
	}
	text := section(t, "docs/command-line.md", "Exit status")
	for _, code := range codes {
		if !strings.Contains(text, "\n| "+code+" | ") {
			t.Errorf("docs/command-line.md, Exit status: %s is missing", code)
		}
	}
}

func TestDocsNameEveryCommand(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("cmd/engine-provisioner/*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := firstColumn(readFile(t, "docs/command-line.md"))
	found := 0
	for _, f := range files {
		for _, m := range regexp.MustCompile(`Use: +"([a-z]+)[ "]`).FindAllStringSubmatch(readFile(t, f), -1) {
			found++
			if !named[m[1]] && !named[m[1]+" FILE…"] {
				t.Errorf("docs/command-line.md: %q is missing", m[1])
			}
		}
	}
	if found < 7 {
		t.Fatalf("%d commands in the code", found)
	}
}

func TestPictureIsOfThisTree(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, f := range files {
		if !strings.HasSuffix(f, "_test.go") && f != "internal_deps.go" {
			sources = append(sources, f)
		}
	}
	_, picture, _ := strings.Cut(section(t, "CONTRIBUTING.md", "Layout"), "\n```files\n")
	picture, _, _ = strings.Cut(picture, "```")
	named := map[string]bool{}
	for _, f := range regexp.MustCompile(`\w+\.go\b`).FindAllString(picture, -1) {
		named[f] = true
	}
	wantSame(t, "CONTRIBUTING.md, Layout", named, sources)

	folders, err := os.ReadDir("internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if !strings.Contains(picture, " "+f.Name()) {
			t.Errorf("CONTRIBUTING.md, Layout: internal/%s is missing", f.Name())
		}
	}
}

// The README's code is the code that is compiled and run.
func TestReadmeCode(t *testing.T) {
	t.Parallel()
	readme := readFile(t, "README.md")
	for _, name := range []string{"serve", "keep"} {
		_, code, _ := strings.Cut(readFile(t, "example_test.go"), "\n// "+name+" ")
		code, _, _ = strings.Cut("// "+name+" "+code, "\n}\n")
		if !strings.Contains(readme, "```go\n"+code+"\n}\n```") {
			t.Errorf("README.md: the code is not that of %s in example_test.go, which is:\n%s\n}", name, code)
		}
	}
}

// Each YAML block in the documents is a pools file.
func TestDocsPoolsFiles(t *testing.T) {
	t.Parallel()
	found := 0
	for file, text := range documents(t) {
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1) {
			found++
			if _, err := provisioner.ParseConfig([]byte(block[1]), file); err != nil {
				t.Errorf("%s:\n%s\n%v", file, block[1], err)
			}
		}
	}
	if found < 9 {
		t.Errorf("%d pools files in the documents", found)
	}
}

// Each link leads to a file and a heading, and the README leads to each document.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	texts := documents(t)
	linked := map[string]bool{"README.md": true}
	for file, text := range texts {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(prose(text), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := file
			if target != "" {
				path = filepath.Join(filepath.Dir(file), target)
			}
			if file == "README.md" {
				linked[path] = true
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
				continue
			}
			if anchor != "" && !hasHeading(texts[path], anchor) {
				t.Errorf("%s links to %s, and there is no such heading", file, m[1])
			}
		}
	}
	for file := range texts {
		if !linked[file] {
			t.Errorf("README.md does not link to %s", file)
		}
	}
}

// prose is a document without its blocks of code.
func prose(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
}

// hasHeading finds a heading by the anchor that code hosts give it.
func hasHeading(text, anchor string) bool {
	dropped := regexp.MustCompile(`[^a-z0-9 _-]`)
	for line := range strings.Lines(prose(text)) {
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		title = dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
		if strings.ReplaceAll(title, " ", "-") == anchor {
			return true
		}
	}
	return false
}
