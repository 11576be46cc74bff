package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra/doc"
)

// manEnv is the folder that the pages are left in, for scripts/release.sh.
const manEnv = "ENGINE_PROVISIONER_MAN"

// TestManPages makes a page of each command. It is a test, so that no program links what makes them.
func TestManPages(t *testing.T) {
	dir := os.Getenv(manEnv)
	if dir == "" {
		dir = t.TempDir()
	}
	c := &cli{}
	root := c.rootCommand()
	header := &doc.GenManHeader{Title: "ENGINE-PROVISIONER", Section: "1", Source: "engine-provisioner", Manual: "User commands"}
	if err := doc.GenManTree(root, header, dir); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) <= len(root.Commands()) {
		t.Errorf("pages %q (%v)", pages, err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "engine-provisioner-stop.1"))
	if err != nil || !strings.Contains(string(page), `\fB--state-dir\fP`) {
		t.Errorf("the page of stop: %s (%v)", page, err)
	}
}
