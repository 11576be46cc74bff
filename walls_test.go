package provisioner_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listed is what "go list" tells of a package.
type listed struct {
	ImportPath string
	Dir        string
	Doc        string
	Module     struct{ Path string }
	Standard   bool
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
}

// packages are those of this module, by their paths in it; "." is the root.
func packages(t *testing.T) map[string]listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Doc,Module,GoFiles,CgoFiles,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]listed{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		for i, path := range p.Imports {
			p.Imports[i] = within(p.Module.Path, path)
		}
		all[within(p.Module.Path, p.ImportPath)] = p
	}
}

// within is an import path as this module's own, or as it is.
func within(module, path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// layers reads the picture in the README: a line for each layer, from the face down, with the packages in it. "name/…"
// stands for all below a folder.
func layers(t *testing.T) [][]string {
	t.Helper()
	_, picture, ok := strings.Cut(section(t, "README.md", "Architecture"), "```layers\n")
	if !ok {
		t.Fatal("README.md, Architecture: there is no picture of the layers")
	}
	picture, _, _ = strings.Cut(picture, "```")
	var all [][]string
	for line := range strings.Lines(picture) {
		names, _, _ := strings.Cut(line, "   ") // what follows is for people
		if names = strings.TrimSpace(names); names != "" {
			all = append(all, strings.Fields(names))
		}
	}
	return all
}

func layerOf(all [][]string, path string) (int, bool) {
	for i, names := range all {
		for _, name := range names {
			if folder, below := strings.CutSuffix(name, "/…"); name == path || below && strings.HasPrefix(path, folder+"/") {
				return i, true
			}
		}
	}
	return 0, false
}

// Imports go down, or stay in their layer.
func TestImportsGoDown(t *testing.T) {
	t.Parallel()
	picture, all := layers(t), packages(t)
	if len(all) < 40 {
		t.Fatalf("%d packages", len(all))
	}
	for path, p := range all {
		from, known := layerOf(picture, path)
		if !known {
			t.Errorf("README.md, Architecture: %s is in no layer", path)
		}
		for _, i := range p.Imports {
			if to, ours := layerOf(picture, i); ours && to < from && known {
				t.Errorf("%s imports %s, which is above it", path, i)
			}
		}
	}
	for _, names := range picture {
		for _, name := range names {
			folder := strings.TrimSuffix(name, "/…")
			if info, err := os.Stat(folder); err != nil || !info.IsDir() {
				t.Errorf("README.md, Architecture: there is no package %s", name)
			}
		}
	}
}

// Limits of a package: what one can hold in one's head.
const (
	maxFiles     = 20
	maxLines     = 3000
	maxFileLines = 350
)

// larger are the packages that are above a limit, with the reason, and what they must not exceed.
var larger = map[string]struct {
	files, lines int
	why          string
}{
	".":                      {25, 7_300, "the room that the others are taken from, wall by wall: it only shrinks"},
	"cmd/engine-provisioner": {45, 5_350, "a file for each command"},
	"enginetest":             {27, 4_000, "an engine with the ways of four of them, and all their mistakes"},
}

// longer are files above the limit, and what they must not exceed.
var longer = map[string]int{
	"internal/ggufgen/ggufgen.go": 351, "enginetest/conformance/conformance.go": 400, "engine/flagline/line.go": 380,
}

func TestRoomsAreSmall(t *testing.T) {
	t.Parallel()
	for path, p := range packages(t) {
		sum := 0
		files := slices.Concat(p.GoFiles, p.CgoFiles)
		for _, name := range files {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			lines := bytes.Count(text, []byte("\n"))
			if sum += lines; lines > max(maxFileLines, longer[filepath.Join(path, name)]) {
				t.Errorf("%s has %d lines; at most %d", filepath.Join(path, name), lines, maxFileLines)
			}
		}
		limit, ok := larger[path]
		if !ok {
			limit.files, limit.lines = maxFiles, maxLines
		}
		if len(files) > limit.files || sum > limit.lines {
			t.Errorf("%s has %d files and %d lines; at most %d and %d", path, len(files), sum, limit.files, limit.lines)
		}
		if ok && len(files) <= maxFiles && sum <= maxLines {
			t.Errorf("%s needs no limits of its own any more", path)
		}
	}
}

// maxNames is how many names the table of contents of the root may have.
const maxNames = 80

func TestRootIsATableOfContents(t *testing.T) {
	t.Parallel()
	names := 0
	for line := range strings.Lines(readFile(t, "testdata/api/provisioner.txt")) { // TestAPI keeps it current
		kind, rest, _ := strings.Cut(line, " ")
		if slices.Contains([]string{"const", "var", "type", "func"}, kind) && !strings.HasPrefix(rest, "(") {
			names++
		}
	}
	if names == 0 || names > maxNames {
		t.Errorf("the root has %d exported names; at most %d", names, maxNames)
	}
}

// Every package says what it is for.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	for path, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", path)
		}
	}
}

// What is built from C prints what a C compiler says: a build of the command compiles no C of others but purego's, which says
// nothing, and needs no newer Go than any of the version that the README asks for.
func TestBuildSaysNothing(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f",
		"{{if and .CgoFiles (not .Standard)}}{{.ImportPath}}{{end}}", "./cmd/engine-provisioner").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, path := range strings.Fields(string(out)) {
		if path != "github.com/ebitengine/purego/internal/cgo" {
			t.Errorf("a build compiles the C of %s", path)
		}
	}
	for _, path := range []string{"go.mod", "examples/customengine/go.mod"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, line, _ := strings.Cut(string(text), "\ngo "); !strings.HasPrefix(line, "1.26\n") && !strings.HasPrefix(line, "1.26.0\n") {
			t.Errorf("%s asks for Go %q", path, strings.SplitN(line, "\n", 2)[0])
		}
	}
}
