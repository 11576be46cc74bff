package workload

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// placed says what keeps a replica from running there, though the pools file is good here.
func (w *Workload) placed(o Options) error {
	switch {
	case w.Pool.Port == HTTPPort:
		return fmt.Errorf("its port %d is the manager's own there, for probes and metrics; give it another \"port\"", HTTPPort)
	case w.Model.Folder != "" && !filepath.IsAbs(w.Model.Folder):
		return fmt.Errorf("\"model.id\" is relative, and the pools file is in no folder; write the whole path, or name the file with --config")
	case !utf8.ValidString(w.Model.Folder):
		return fmt.Errorf("the folder of its model is %q, whose name is no text; rename it", w.Model.Folder)
	case o.Image != "":
		return CheckImage("--engine-image", o.Image)
	}
	return nil
}

// CheckImage says whether a text can be the reference of an image: what else it holds could be more than one value in a unit.
func CheckImage(flag, reference string) error {
	if strings.ContainsFunc(reference, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._:/@-[]", r)
	}) {
		return fmt.Errorf("%s is %q, which is no image; write it as registries do, such as \"ghcr.io/owner/name:tag\"", flag, reference)
	}
	return nil
}
