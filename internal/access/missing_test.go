package access

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "llama-8b.gguf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"lama-8b.gguf": `"llama-8b.gguf" is there`, "LLAMA-8B.GGUF": `"llama-8b.gguf" is there`, "else": "",
		"link": `it is a link to "nowhere", which is not there`, "no/m.gguf": `there is no folder "` + filepath.Join(dir, "no") + `"`,
	} {
		if got := Missing(filepath.Join(dir, path)); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
