package fleet

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// wantMode compares a file's or a folder's permissions.
func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != want {
		t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode().Perm(), want, err)
	}
}

// The next manager gives the handoff the readers of its configuration, and the form of its version.
func TestAnAdoptedHandoffIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	p, _ := ready(t, cfg)
	old, _ := p.Handoff()
	files := filesOf(p)
	old.Schema, old.Flags, old.Args, old.SlotsTotal, old.SlotsFree = 1, old.Args, nil, 0, 0
	if err := files.Publish(old, state.Readers{}); err != nil {
		t.Fatal(err)
	}
	// As an earlier version wrote the record, too.
	rewrite(t, files, func(_, launch map[string]any) { launch["flags"] = nil })
	p.Release()
	cfg.Handoff.Mode = "0644"
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	h, err := provisioner.ReadHandoff(files.Handoff())
	if err != nil || h.Process.LaunchID != old.Process.LaunchID || !h.ReadyAt.Equal(old.ReadyAt) || h.Schema != provisioner.HandoffSchema {
		t.Fatalf("%+v, %v", h, err)
	}
	if strings.Join(h.Args, " ") != strings.Join(old.Flags, " ") || h.Flags[0] != "--parallel" || h.SlotsTotal != 1 {
		t.Errorf("%+v", h)
	}
	wantMode(t, files.Handoff(), 0o644)
	if told, _ := s.replicas[0].launch.Handoff(); told.Schema != provisioner.HandoffSchema {
		t.Errorf("WaitReady tells another: %+v", told)
	}
}

// A change of the readers replaces no engine.
func TestReloadOfReaders(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	s, _ := superviseReady(t, cfg)
	was := s.Status()[0]
	files := s.replicas[0].files
	wantMode(t, files.Handoff(), 0o600)
	cfg.Handoff.Mode = "0640"
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	wantMode(t, files.Handoff(), 0o640)
	wantMode(t, files.State, 0o710)
	cfg.Handoff.Mode = "0600"
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	wantMode(t, files.Handoff(), 0o600)
	if now := s.Status()[0]; now.LaunchID != was.LaunchID || now.State != provisioner.StateReady {
		t.Errorf("%+v, before %+v", now, was)
	}
	// Also when somebody has removed the file.
	cfg.Handoff.Mode = "0644"
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	if err := os.Remove(files.Handoff()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the handoff is written again", func() bool { return access.Exists(files.Handoff()) })
	wantMode(t, files.Handoff(), 0o644)
}
