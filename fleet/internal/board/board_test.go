package board

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

var id = provisioner.ReplicaID{Pool: "chat", Replica: "r0"}

func event(kind provisioner.EventKind, done int64) provisioner.Event {
	e := provisioner.Event{Pool: id.Pool, Replica: id.Replica, Kind: kind}
	if kind == provisioner.EventProgress {
		e.Progress = &report.Progress{Step: report.StepDownload, What: "chat.gguf", Done: done, Total: 100}
	}
	return e
}

// posted is how many bytes are told of, -1 for none.
func posted(t *testing.T, dir string) int64 {
	t.Helper()
	p, ok := Read(dir)
	if !ok || len(p.Replicas) != 1 || p.Replicas[0].ReplicaID != id || p.Replicas[0].Model != "chat.gguf" || p.Manager.PID != os.Getpid() {
		t.Fatalf("%+v, %v", p, ok)
	}
	if p.Replicas[0].Progress == nil {
		return -1
	}
	return p.Replicas[0].Progress.Done
}

// Progress is written once a second, and its end at once.
func TestProgressIsPosted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m, err := provisioner.Manage(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	synctest.Test(t, func(t *testing.T) {
		b := New(dir)
		keep := func(want int64) {
			t.Helper()
			if err := b.Keep(); err != nil {
				t.Fatal(err)
			}
			if got := posted(t, dir); got != want {
				t.Errorf("%d bytes are told of, want %d", got, want)
			}
		}
		if err := b.Post([]Entry{{ReplicaID: id, Engine: "llamacpp", Model: "chat.gguf"}}); err != nil {
			t.Fatal(err)
		}
		keep(-1)
		b.See(event(provisioner.EventProgress, 10))
		keep(-1) // it was written just now
		time.Sleep(period)
		keep(10)
		b.See(event(provisioner.EventProgress, 20))
		b.See(event(provisioner.EventNote, 0)) // which ends nothing
		keep(10)
		if p := b.Progress(id); p == nil || p.Done != 20 {
			t.Errorf("here: %+v", p)
		}
		b.See(event(provisioner.EventState, 0))
		keep(-1)
		if p := b.Progress(id); p != nil {
			t.Errorf("after its end: %+v", p)
		}
	})
}

// What an earlier manager has posted tells nothing, and nothing is written into a file that somebody has put in the way.
func TestOfAnotherManager(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := New(dir)
	if err := b.Post([]Entry{{ReplicaID: id}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := Read(dir); ok {
		t.Error("nobody is the manager, and its board is told")
	}
	lock, _, err := state.TakeManager(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, ok := Read(dir); !ok {
		t.Error("the manager's board is not told")
	}
	path := filepath.Join(dir, fileName)
	for what, text := range map[string]string{
		"of another process": `{"manager":{"pid":1,"start_ticks":"7"},"replicas":[{"pool":"chat","replica":"r0"}]}`,
		"half a file":        `{"manager":`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, ok := Read(dir); ok {
			t.Errorf("%s: %+v", what, p)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	for _, name := range []string{fileName, fileName + ".new"} {
		_ = os.Remove(filepath.Join(dir, name))
		if err := os.Symlink(other, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Post(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("the file behind a link was written")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if b.Post(nil) == nil {
		t.Error("without the folder: no error")
	}
}
