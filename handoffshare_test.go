package provisioner

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Other nodes see a copy of the handoff while the replica is ready and in service, whoever ends that, and as it is by now.
func TestSharedHandoff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	events, err := WatchHandoffs(bounded(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Handoff = settings.Handoff{Dir: dir, TTL: settings.Duration(time.Hour), Mode: "0644"}
	p, _ := ready(t, cfg)
	node, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, node+".pool-r0.json")
	appears := func(what string) {
		t.Helper()
		e := next(t, events)
		local, _ := p.Handoff()
		if e.Removed || e.Err != nil || e.Path != path || e.Handoff.URL != local.URL || e.Handoff.Lease == nil || e.Handoff.Lease.Node != node {
			t.Fatalf("%s: %+v", what, e)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Fatalf("%s: %v, %v", what, info, err)
		}
	}
	vanishes := func(what string) {
		t.Helper()
		if e := next(t, events); !e.Removed || e.Path != path {
			t.Fatalf("%s: %+v", what, e)
		}
	}
	appears("ready")
	if read, err := ReadHandoff(path); err != nil || read.Lease.TTL != 3600 {
		t.Fatalf("%+v, %v", read, err)
	}
	if local, err := ReadHandoff(p.run.files.Handoff()); err != nil || local.Lease != nil {
		t.Fatalf("this node's own handoff has a lease: %+v, %v", local, err)
	}
	if err := p.Drain(bounded(t)); err != nil {
		t.Fatal(err)
	}
	vanishes("out of service")
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	appears("in service again")

	// Another program stops it: it removes the copy itself.
	other, err := Attach(cfg.StateDir, cfg.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy outlives the stop: %v", err)
	}
	vanishes("stopped")
	<-p.Done()
}

// An engine does not depend on the folder: it is ready without, a note says what is wrong, and the copy is there as soon as it can be.
// Other settings take it along, and leave none behind.
func TestSharedFolderComesAndGoes(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Handoff = settings.Handoff{Dir: filepath.Join(top, "late")}
	p, j := ready(t, cfg)
	eventually(t, "a note", func() bool { return strings.Contains(j.notes(), "cannot share its handoff in") })
	if err := os.Mkdir(cfg.Handoff.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	there := func(dir string) bool {
		all, err := filepath.Glob(filepath.Join(dir, "*.pool-r0.json"))
		return err == nil && len(all) == 1
	}
	eventually(t, "the copy", func() bool { return there(cfg.Handoff.Dir) })
	moved := cfg
	moved.Handoff.Dir = t.TempDir()
	c, err := p.Compare(bounded(t), moved)
	if err != nil || len(c.Differs) > 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	next, err := p.Update(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = next.Stop(bounded(t)) })
	eventually(t, "the copy in the other folder", func() bool { return there(moved.Handoff.Dir) })
	if there(cfg.Handoff.Dir) {
		t.Error("a copy stays in the folder of before")
	}
	if err := next.Kill(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
		t.Fatal(err)
	}
	eventually(t, "the end of the copy", func() bool { return !there(moved.Handoff.Dir) })
}

// A lease that nobody renews is over: the handoff of a node that died is read as none.
func TestLeaseOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "far.chat-r0.json")
	text := `{"url": "http://far:8081", "pool_id": "chat", "replica_id": "r0", "lease": {"node": "far", "owner": "x", "renewed_at": "2026-01-02T03:04:05Z", "ttl": 30}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadHandoff(path)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `which the node "far" renewed last at 2026-01-02T03:04:05Z`) {
		t.Errorf("%v", err)
	}
}
