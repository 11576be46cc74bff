package provisioner_test

import (
	"go/ast"
	"go/doc"
	"go/format"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/test/golden"
)

// public are the packages that programs and authors of plug-ins import.
var public = []string{".", "engine", "engine/flagline", "enginetest", "enginetest/conformance", "settings", "report", "launch", "docker", "fleet", "fleet/metrics", "web", "node", "importer", "quickstart", "usage"}

// TestAPI compares what can be imported with the record of it, so that no change of it goes unseen. No version has been published
// that a tool could compare with; "go test -run TestAPI -update ." writes the record anew, and the changelog says what changed.
func TestAPI(t *testing.T) {
	t.Parallel()
	for _, dir := range public {
		golden.Check(t, filepath.Join("testdata/api", strings.NewReplacer(".", "provisioner", "/", "-").Replace(dir)+".txt"), api(t, dir))
	}
}

// api is every exported name of a package with its type, sorted.
func api(t *testing.T, dir string) string {
	t.Helper()
	set := token.NewFileSet()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*ast.File
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name.Name != "main" {
			parsed = append(parsed, f)
		}
	}
	p, err := doc.NewFromFiles(set, parsed, dir)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	add := func(node any) {
		var b strings.Builder
		if err := format.Node(&b, set, node); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b.String())
	}
	values := func(all []*doc.Value) {
		for _, v := range all {
			for _, spec := range v.Decl.Specs {
				spec := *spec.(*ast.ValueSpec)
				spec.Doc, spec.Comment, spec.Values = nil, nil, nil
				spec.Names = slices.DeleteFunc(slices.Clone(spec.Names), func(n *ast.Ident) bool { return !n.IsExported() })
				for _, n := range spec.Names {
					lines = append(lines, v.Decl.Tok.String()+" "+n.Name)
				}
			}
		}
	}
	funcs := func(all []*doc.Func) {
		for _, f := range all {
			f.Decl.Doc, f.Decl.Body = nil, nil
			add(f.Decl)
		}
	}
	values(p.Consts)
	values(p.Vars)
	funcs(p.Funcs)
	for _, typ := range p.Types {
		typ.Decl.Doc = nil
		ast.Inspect(typ.Decl, func(n ast.Node) bool {
			if f, ok := n.(*ast.Field); ok {
				f.Doc, f.Comment = nil, nil
			}
			if s, ok := n.(*ast.TypeSpec); ok {
				s.Doc, s.Comment = nil, nil
			}
			return true
		})
		add(typ.Decl)
		values(typ.Consts)
		values(typ.Vars)
		funcs(typ.Funcs)
		funcs(typ.Methods)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}
