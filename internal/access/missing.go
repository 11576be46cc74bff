package access

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// Missing says, for people, what is known of a path at which nothing is: a link that leads nowhere, a folder on the way that is
// not there, or another name beside it that was probably meant. It returns "" when there is nothing to say.
func Missing(path string) string {
	if to, err := os.Readlink(path); err == nil {
		return fmt.Sprintf("it is a link to %q, which is not there", to)
	}
	dir := filepath.Dir(path)
	if there := Existing(dir); there != dir {
		return fmt.Sprintf("there is no folder %q", dir)
	}
	f, err := os.Open(dir)
	if err != nil {
		return ""
	}
	defer f.Close()
	const enough = 10_000 // names; of a larger folder nobody wants to wait for a guess
	names, _ := f.Readdirnames(enough)
	if near := nearest.Of(filepath.Base(path), names); near != "" {
		return fmt.Sprintf("%q is there", near)
	}
	return ""
}
