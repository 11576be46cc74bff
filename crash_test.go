package provisioner

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// A provisioner that is killed while it replaces a file leaves a temporary one. The next start clears it away, and
// spares those of other replicas, which may be written just now.
func TestStartClearsTornWrites(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	files, err := filesOf(cfg.StateDir, cfg.fileStem())
	other := state.In(files.State, "pool-r1")
	if err := errors.Join(err, files.Create()); err != nil {
		t.Fatal(err)
	}
	torn := func(path string) string {
		f, err := os.CreateTemp(filepath.Dir(path), ".tmp-"+filepath.Base(path)+"-*")
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	left := []string{torn(files.Record()), torn(files.Handoff())}
	busy := torn(other.Handoff())
	started(t, cfg)
	for _, path := range left {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left (%v)", path, err)
		}
	}
	if _, err := os.Lstat(busy); err != nil {
		t.Errorf("another replica's write is spoilt: %v", err)
	}
}

// The launch's temporary folder stands in the record before it exists: whoever finds the record of a start that was
// killed in between can remove it.
func TestTempFolderIsRecordedFirst(t *testing.T) {
	cfg := fakeConfig(t, enginetest.Behavior{})
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "absent"))
	p, _ := newLaunch(t, cfg)
	wantText(t, p.Start(bounded(t)), "cannot create a temporary folder")
	files, err := filesOf(cfg.StateDir, cfg.fileStem())
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := readRecord(files); err != nil || rec.State != StateFailed || rec.TempDir != "" {
		t.Errorf("the record says %+v (%v)", rec, err)
	}
}

// Who owns a folder can replace what is in it, whatever its mode.
func TestForeignStateDirectory(t *testing.T) {
	t.Parallel()
	mine, err := os.Lstat(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stat := *mine.Sys().(*syscall.Stat_t)
	stat.Uid = uint32(os.Geteuid()) + 1
	if !state.Ours(mine) || state.Ours(foreignFile{mine, &stat}) {
		t.Error("ours cannot tell who owns a folder")
	}
}

type foreignFile struct {
	fs.FileInfo
	stat *syscall.Stat_t
}

func (f foreignFile) Sys() any { return f.stat }
