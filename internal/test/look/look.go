// Package look is what tests see: processes, pages, files, the words of an error, and what a printed value gives away.
//
// Tests of the root and of fleet call it, and nothing else. It changes nothing.
package look

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
)

// Alive tells whether a process runs.
func Alive(pid int) bool {
	s, err := procfs.ReadStat(pid)
	return err == nil && !s.Dead()
}

// WantText fails the test unless an error says all of this.
func WantText(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

// StatusAt is the status code that a page answers.
func StatusAt(t testing.TB, url string) int {
	t.Helper()
	client := http.Client{Timeout: wait.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// Printed prints a value in every way in which it could give something away.
func Printed(v any) string {
	data, _ := json.Marshal(v)
	return fmt.Sprintf("%v\n%+v\n%#v\n%s", v, v, v, data)
}

// FilesBelow is the content of all regular files below dir, by path.
func FilesBelow(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
