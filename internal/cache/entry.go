package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Entry is an engine in the cache that was built, installed or unpacked there. It stays in the folder in which it was
// made, because scripts and libraries hold that path, and it counts from the moment that its manifest is there, which is
// written last. What a run that was canceled or killed has left has no manifest: it is made again, or gone on with.
type Entry struct{ Dir string }

// Manifest says what an entry is.
type Manifest struct {
	What       string    `json:"what"`       // for people
	Executable string    `json:"executable"` // relative to the entry
	Dir        string    `json:"dir"`        // of the entry when it was made
	MadeAt     time.Time `json:"made_at"`
}

const manifestName = "manifest.json"

// unusable says what to do about a cache that cannot be written to.
func unusable(err error) error {
	return fmt.Errorf("cannot use the cache: %w; set XDG_CACHE_HOME to a folder that this user can write to", access.Explain(err))
}

// checkOwn refuses a folder of executables in which somebody else could put others. It need not exist.
func checkOwn(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return unusable(err)
	case !state.Ours(info):
		return fmt.Errorf("cannot use %q: it belongs to another user, %s, who could replace what is in it; run as the owner, or set another XDG_CACHE_HOME", dir, access.Owner(info))
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("cannot use %q: others may write to it (mode %#o); run chmod 700 on it", dir, info.Mode().Perm())
	}
	return nil
}

// Path is that of file in the entry.
func (e Entry) Path(file ...string) string { return filepath.Join(append([]string{e.Dir}, file...)...) }

// Executable is the path of what the entry is there for; "" when the entry is not complete.
func (e Entry) Executable() string {
	m, ok := e.Manifest()
	path := e.Path(m.Executable)
	if !ok || m.Dir != e.Dir { // a cache that was moved: what is in it looks where it was made
		return ""
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "" // somebody has tidied up by hand
	}
	return path
}

// Manifest says what the entry is; false when it is not complete.
func (e Entry) Manifest() (Manifest, bool) {
	var m Manifest
	data, err := state.Read(e.Path(manifestName))
	if err != nil || json.Unmarshal(data, &m) != nil || !filepath.IsLocal(m.Executable) {
		return Manifest{}, false
	}
	return m, true
}

// Lock is the file that is locked by whoever makes the entry, or removes it.
func (e Entry) Lock() string { return e.Dir + ".lock" }

// Watcher is told how it goes.
type Watcher struct {
	Waiting func(holder string)  // another process makes the entry: whom it is waited for, "" where that is not known
	Note    func(message string) // what is worth knowing
}

// Get gives the executable of an entry that is complete, or has fill complete it. Of two programs, or two replicas, one
// makes it and the others wait, which they tell. The lock that fill gets is for the processes that it starts: they inherit
// it, so that nobody else begins before the last of them has ended, even if this program is killed.
func (e Entry) Get(ctx context.Context, tell Watcher, fill func(lock *os.File) (Manifest, error)) (string, error) {
	if path := e.Executable(); path != "" {
		e.Used()
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(e.Dir), 0o700); err != nil {
		return "", unusable(err)
	}
	lock, err := state.AwaitLock(ctx, e.Lock(), e.waiting(tell))
	if unopened, ok := errors.AsType[*fs.PathError](err); ok {
		return "", unusable(unopened)
	}
	if err != nil {
		return "", err
	}
	defer lock.Release()
	lock.Sign()
	if path := e.Executable(); path != "" { // made meanwhile
		return path, nil
	}
	// One whose executable was removed is no entry any more.
	if err := atomicfile.Remove(e.Path(manifestName)); err != nil {
		return "", unusable(err)
	}
	if err := os.MkdirAll(e.Dir, 0o700); err != nil {
		return "", unusable(err)
	}
	m, err := fill(lock.Share())
	if err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", context.Cause(ctx)
	}
	m.Dir, m.MadeAt = e.Dir, time.Now().UTC().Truncate(time.Second)
	data, err := json.Marshal(m)
	if err == nil {
		// The manifest must not outlive a power cut that what it vouches for does not.
		err = atomicfile.SyncTree(e.Dir)
	}
	if err == nil {
		err = atomicfile.Write(e.Path(manifestName), append(data, '\n'))
	}
	if err != nil {
		return "", fmt.Errorf("cannot complete %q: %w", e.Dir, err)
	}
	if path := e.Executable(); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("cannot use %q: its executable is gone", e.Dir)
}

// waiting is called as long as another process holds the lock, and tells whom it is waited for. What a killed provisioner
// has left at work is ended: nobody tells how far it is, it might hang for ever, and what it makes would be made again.
func (e Entry) waiting(tell Watcher) func() {
	var told *string
	unseen := false
	return func() {
		note, known := state.ReadNote(e.Lock())
		holder := ""
		switch {
		case known && note.Gone():
			n, err := endHolders(e.Lock())
			if n > 0 {
				tell.Note(fmt.Sprintf("ended %s that %s, which was killed, had left at work in %q", processes(n), note, e.Dir))
			}
			if err != nil {
				holder = fmt.Sprintf("what %s has left (%v)", note, err)
			} else if n > 0 || !unseen {
				unseen = n == 0
				return // the lock is most likely free now: another replica may have ended them
			}
		case known:
			holder = note.String()
		}
		if told == nil || *told != holder {
			told = &holder
			tell.Waiting(holder)
		}
	}
}

func processes(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

// endHolders ends the processes that hold a lock whose owner is gone, with all that belongs to them. It ends none where
// somebody holds it that no provisioner has started.
func endHolders(path string) (ended int, err error) {
	holders, err := procfs.Holders(path)
	if err != nil {
		return 0, err
	}
	marks := map[string]bool{}
	for _, s := range holders {
		mark, marked := procfs.Env(s.PID, proc.MarkEnv)
		if s.PID == os.Getpid() || !marked || mark == "" || mark == os.Getenv(proc.MarkEnv) { // this program may be part of a launch
			return 0, nil
		}
		marks[mark] = true
	}
	for mark := range marks {
		left := proc.Tree{Mark: mark}
		n, stuck := left.Sweep(time.Second)
		ended, err = ended+n, errors.Join(err, stuck)
	}
	return ended, err
}

// Used notes the time, for whoever tidies up.
func (e Entry) Used() {
	now := time.Now()
	_ = os.Chtimes(e.Path(manifestName), now, now) // it is but a hint
}

// Clear removes what is in the way of a new beginning.
func (e Entry) Clear(names ...string) error {
	for _, name := range names {
		if err := os.RemoveAll(e.Path(name)); err != nil {
			return fmt.Errorf("cannot clear the cache: %w", err)
		}
	}
	return nil
}
