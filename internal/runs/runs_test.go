package runs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"
)

// place is a home with an index, and a folder with a pools file in it.
func place(t *testing.T) (file, dir string) {
	t.Helper()
	root := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(root, "home"))
	if err := os.Mkdir(filepath.Join(root, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(root, "pools.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, newState(t, root, "state")
}

func newState(t *testing.T, root, name string) string {
	t.Helper()
	dir := filepath.Join(root, name)
	if err := state.Create(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func note(t *testing.T, file, dir string) {
	t.Helper()
	if err := Note(file, dir); err != nil {
		t.Fatal(err)
	}
}

func wantFound(t *testing.T, file, usual string, want ...string) {
	t.Helper()
	if got, err := find(file, usual); err != nil || !slices.Equal(got, want) {
		t.Errorf("find(%q): %q, %v; want %q", file, got, err, want)
	}
}

func TestFind(t *testing.T) {
	file, dir := place(t)
	root := filepath.Dir(file)
	usual := newState(t, root, "usual")
	wantFound(t, file, usual)
	note(t, file, dir)
	wantFound(t, file, usual, dir)

	later := newState(t, root, "later")
	note(t, file, later)
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(Index(), stem(file)+"-"+stem(dir)+".json"), past, past); err != nil {
		t.Fatal(err)
	}
	wantFound(t, file, usual, later, dir)
	note(t, file, usual)
	wantFound(t, file, usual, usual, later, dir)
	note(t, file, dir) // again: it is the latest
	wantFound(t, file, "", dir, usual, later)

	link := filepath.Join(root, "link.yaml")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	wantFound(t, link, usual, usual, dir, later)
}

// The index is not believed: a directory that says nothing of the file, or something else, or is gone, is none of its.
func TestIndexIsNoProof(t *testing.T) {
	file, dir := place(t)
	note(t, file, dir)
	if err := os.Remove(filepath.Join(dir, "files.json")); err != nil {
		t.Fatal(err)
	}
	wantFound(t, file, "")
	other := filepath.Join(filepath.Dir(file), "other.yaml")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	note(t, other, dir)
	wantFound(t, file, "")
	wantFound(t, other, "", dir)
	if got := latest(file, dir); got != other {
		t.Errorf("latest: %q", got)
	}
	if got := latest(other, dir); got != "" {
		t.Errorf("latest of its own: %q", got)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if got := latest(file, dir); got != "" {
		t.Errorf("latest that is gone: %q", got)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	wantFound(t, other, "")
}

// What cannot be read is told where nothing else is found, and a file of an index that is none is passed over.
func TestFindWhatCannotBeRead(t *testing.T) {
	file, dir := place(t)
	note(t, file, dir)
	if err := os.WriteFile(filepath.Join(Index(), stem(file)+"-x.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFound(t, file, "", dir)
	if err := os.WriteFile(filepath.Join(dir, "files.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := find(file, ""); err == nil {
		t.Error("a directory that cannot be read is no error")
	}
	note(t, file, dir)
	wantFound(t, file, "", dir)
}

// Entries go whose state directory has not been there for a month, and no others.
func TestIndexDoesNotGrow(t *testing.T) {
	file, dir := place(t)
	gone := newState(t, filepath.Dir(file), "gone")
	note(t, file, gone)
	note(t, file, dir)
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	entries := func() int {
		t.Helper()
		files, err := os.ReadDir(Index())
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	prune(Index(), time.Now())
	if n := entries(); n != 2 {
		t.Errorf("%d entries, want 2: the disk may come back", n)
	}
	prune(Index(), time.Now().Add(forgotten+time.Minute))
	if n := entries(); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
	wantFound(t, file, "", dir)
}

// What others have put into the folder stays, however old and whatever it is, and what a killed writer has left goes.
func TestPruneRemovesItsOwnAlone(t *testing.T) {
	file, dir := place(t)
	note(t, file, dir)
	torn := ".tmp-" + stem(file) + "-" + stem(dir) + ".json-123"
	others := []string{"README", "notes.json", ".tmp-notes.json-1", ".tmp-", "-", stem(file) + ".json", stem(file) + "-" + stem(dir) + ".json.bak"}
	for _, name := range append(others, torn) {
		if err := os.WriteFile(filepath.Join(Index(), name), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	odd := stem("/a") + "-" + stem("/b") + ".json" // a name of ours, and no entry
	if err := os.Mkdir(filepath.Join(Index(), odd), 0o700); err != nil {
		t.Fatal(err)
	}
	prune(Index(), time.Now().Add(forgotten+time.Hour))
	for _, name := range append(others, odd) {
		if _, err := os.Lstat(filepath.Join(Index(), name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(Index(), torn)); err == nil {
		t.Error("what a killed writer has left is still there")
	}
	wantFound(t, file, "", dir)
}

// A home that belongs to somebody else is not written to, and one that is not known is none.
func TestNoHome(t *testing.T) {
	file, dir := place(t)
	if os.Geteuid() == 0 {
		home := t.TempDir()
		if err := os.Chown(home, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		t.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
		note(t, file, dir)
		if files, err := os.ReadDir(home); err != nil || len(files) > 0 {
			t.Errorf("%v, %v", files, err)
		}
	}
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", "")
	if got := Index(); got != "" {
		t.Errorf("Index: %q", got)
	}
	note(t, file, dir)
	wantFound(t, file, dir, dir) // it says so itself
	t.Setenv("HOME", "/home/ann")
	if got := Index(); got != "/home/ann/.local/state/engine-provisioner/runs" {
		t.Errorf("Index: %q", got)
	}
}

// Of all the places where a file has run it is the one that runs; of those where nothing does, the one where something has.
func TestLocate(t *testing.T) {
	file, elsewhere := place(t)
	root := filepath.Dir(file)
	here := filepath.Join(root, "here")
	usual := newState(t, here, ".runtime")
	t.Chdir(here)
	held := map[string]Holding{}
	holds := func(dir string) Holding { return held[dir] }
	want := func(dir string, sure bool) {
		t.Helper()
		got, err := Locate(file, holds)
		if err != nil || got != (Place{Dir: dir, Sure: sure, Usual: dir == usual}) {
			t.Errorf("%+v, %v; want %q", got, err, dir)
		}
	}
	want(usual, false) // nothing is known: as ever
	note(t, file, elsewhere)
	want(elsewhere, true)
	held[usual] = Ended // what has run here without telling of which file
	want(usual, false)
	held[elsewhere] = Running
	want(elsewhere, true)

	another := newState(t, root, "another")
	note(t, file, another)
	held[another] = Running
	if _, err := Locate(file, holds); !errors.Is(err, ErrSeveral) || !strings.Contains(err.Error(), elsewhere) || !strings.Contains(err.Error(), another) {
		t.Errorf("two that run: %v", err)
	}
	note(t, file, usual)
	held[usual] = Running
	want(usual, true)

	// What runs here is of a third file: it may have replicas of the same names.
	for _, dir := range []string{usual, elsewhere, another} {
		if err := os.Remove(filepath.Join(dir, "files.json")); err != nil {
			t.Fatal(err)
		}
	}
	third := filepath.Join(root, "third.yaml")
	if err := os.WriteFile(third, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	note(t, third, usual)
	if got, err := Locate(file, holds); err == nil || !strings.Contains(err.Error(), third) || !strings.Contains(err.Error(), Index()) {
		t.Errorf("%+v, %v", got, err)
	}
	beside := filepath.Join(here, "pools.yaml") // but one that lies here is taken for its successor
	if err := os.WriteFile(beside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Locate(beside, holds); err != nil || got.Dir != usual || got.Sure {
		t.Errorf("%+v, %v", got, err)
	}
}
