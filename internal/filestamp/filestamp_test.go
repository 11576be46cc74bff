package filestamp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestChanged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(path string) error
		want   string // "%" stands for the path
	}{
		"nothing":   {func(string) error { return nil }, ""},
		"cut short": {func(path string) error { return os.Truncate(path, 1) }, "had 5 bytes and has 1"},
		"removed":   {os.Remove, "is gone"},
		"touched":   {func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1e9, 0)) }, "was written to at 2001-09-0"},
		"replaced": {func(path string) error {
			return os.WriteFile(path, []byte("other words"), 0o600)
		}, "had 5 bytes and has 11"},
	} {
		for _, folder := range []bool{false, true} {
			dir := t.TempDir()
			path := filepath.Join(dir, "model.gguf")
			if err := os.WriteFile(path, []byte("words"), 0o600); err != nil {
				t.Fatal(err)
			}
			of := path
			if folder {
				of = dir
			}
			stamps := Of(of, filepath.Join(dir, "none"))
			if len(stamps) != 1 || stamps[0].Size != 5 {
				t.Fatalf("%+v", stamps)
			}
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			got := Changed(stamps)
			if got == "" != (c.want == "") || !strings.Contains(got, c.want) || got != "" && !strings.Contains(got, path) {
				t.Errorf("%s, folder %t: %q, want %q", name, folder, got, c.want)
			}
		}
	}
}
