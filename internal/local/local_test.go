package local

import (
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/proc"
)

// What an engine that has lost its record calls its temporary folder may be somebody's data.
func TestOrphansFolderIsItsOwn(t *testing.T) {
	t.Parallel()
	id := proc.NewMark()
	for dir, want := range map[string]bool{
		"/tmp/ep-" + id[:12]: true, "/home/me/ep-data": false, "/tmp/ep-": false, "ep-" + id[:12]: false, "": false,
		"/tmp/ep-" + proc.NewMark()[:12]: false,
	} {
		if got := ownTempDir(dir, id); got != want {
			t.Errorf("%q: %v", dir, got)
		}
	}
	if ownTempDir("/tmp/ep-", "") || ownTempDir("/tmp/ep-x", "x") {
		t.Error("a mark that is no launch's names a folder")
	}
}
