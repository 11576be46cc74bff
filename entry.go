package provisioner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// entry is an engine in the cache that was built, installed or unpacked there. It stays in the folder in which it was
// made, because scripts and libraries hold that path, and it counts from the moment that its manifest is there, which is
// written last. What a run that was canceled or killed has left has no manifest: it is made again, or gone on with.
type entry struct{ dir string }

// manifest says what an entry is.
type manifest struct {
	What       string    `json:"what"`       // for people
	Executable string    `json:"executable"` // relative to the entry
	Dir        string    `json:"dir"`        // of the entry when it was made
	MadeAt     time.Time `json:"made_at"`
}

const manifestName = "manifest.json"

// entry is the one of a kind ("source", "package", "download") for a key, which stands for everything that decides what
// is in it.
func (o *options) entry(kind, key string) (entry, error) {
	dir, err := o.cacheFolder("engines")
	if err == nil {
		err = checkOwnFolder(dir)
	}
	// Short, since the first line of a script holds the path, and old kernels read 127 bytes of that.
	return entry{filepath.Join(dir, kind+"-"+key[:16])}, err
}

// unusableCache says what to do about a cache that cannot be written to.
func unusableCache(err error) error {
	return fmt.Errorf("cannot use the cache: %w; set XDG_CACHE_HOME to a folder that this user can write to", err)
}

// checkOwnFolder refuses a folder of executables in which somebody else could put others. It need not exist.
func checkOwnFolder(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return unusableCache(err)
	case !state.Ours(info):
		return fmt.Errorf("cannot use %q: it belongs to another user, who could replace what is in it; set another XDG_CACHE_HOME", dir)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("cannot use %q: others may write to it (mode %#o); run chmod 700 on it", dir, info.Mode().Perm())
	}
	return nil
}

// path is that of file in the entry.
func (e entry) path(file ...string) string { return filepath.Join(append([]string{e.dir}, file...)...) }

// executable is the path of what the entry is there for; "" when the entry is not complete.
func (e entry) executable() string {
	m, ok := e.manifest()
	path := e.path(m.Executable)
	if !ok || m.Dir != e.dir { // a cache that was moved: what is in it looks where it was made
		return ""
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "" // somebody has tidied up by hand
	}
	return path
}

func (e entry) manifest() (manifest, bool) {
	var m manifest
	data, err := state.Read(e.path(manifestName))
	if err != nil || json.Unmarshal(data, &m) != nil || !filepath.IsLocal(m.Executable) {
		return manifest{}, false
	}
	return m, true
}

// lock is the file that is locked by whoever makes the entry, or removes it.
func (e entry) lock() string { return e.dir + ".lock" }

// get gives the executable of an entry that is complete, or has fill complete it. Of two programs, or two replicas, one
// makes it and the others wait, which they tell as a kind of work. The lock that fill gets is for the processes that it
// starts: they inherit it, so that nobody else begins before the last of them has ended, even if this program is killed.
func (e entry) get(ctx context.Context, work Progress, tell listener, fill func(lock *os.File) (manifest, error)) (string, error) {
	if path := e.executable(); path != "" {
		e.used()
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(e.dir), 0o700); err != nil {
		return "", unusableCache(err)
	}
	lock, err := state.AwaitLock(ctx, e.lock(), e.waiting(work, tell))
	if unopened, ok := errors.AsType[*fs.PathError](err); ok {
		return "", unusableCache(unopened)
	}
	if err != nil {
		return "", err
	}
	defer lock.Release()
	lock.Sign()
	if path := e.executable(); path != "" { // made meanwhile
		return path, nil
	}
	// One whose executable was removed is no entry any more.
	if err := atomicfile.Remove(e.path(manifestName)); err != nil {
		return "", unusableCache(err)
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return "", unusableCache(err)
	}
	m, err := fill(lock.File)
	if err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", context.Cause(ctx)
	}
	m.Dir, m.MadeAt = e.dir, time.Now().UTC().Truncate(time.Second)
	data, err := json.Marshal(m)
	if err == nil {
		// The manifest must not outlive a power cut that what it vouches for does not.
		err = atomicfile.SyncTree(e.dir)
	}
	if err == nil {
		err = atomicfile.Write(e.path(manifestName), append(data, '\n'))
	}
	if err != nil {
		return "", fmt.Errorf("cannot complete %q: %w", e.dir, err)
	}
	if path := e.executable(); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("cannot use %q: its executable is gone", e.dir)
}

// waiting is called as long as another process holds the lock, and tells whom it is waited for. What a killed provisioner
// has left at work is ended: nobody tells how far it is, it might hang for ever, and what it makes would be made again.
func (e entry) waiting(work Progress, tell listener) func() {
	work.Waiting = true
	var told *Progress
	unseen := false
	return func() {
		note, known := state.ReadNote(e.lock())
		work.Holder = ""
		switch {
		case known && note.Gone():
			n, err := endHolders(e.lock())
			if n > 0 {
				tell.note(fmt.Sprintf("ended %s that %s, which was killed, had left at work in %q", count(n, "process", "processes"), note, e.dir))
			}
			if err != nil {
				work.Holder = fmt.Sprintf("what %s has left (%v)", note, err)
			} else if n > 0 || !unseen {
				unseen = n == 0
				return // the lock is most likely free now: another replica may have ended them
			}
		case known:
			work.Holder = note.String()
		}
		if told == nil || *told != work {
			now := work
			told = &now
			tell.progress(now)
		}
	}
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

// used notes the time, for whoever tidies up.
func (e entry) used() {
	now := time.Now()
	_ = os.Chtimes(e.path(manifestName), now, now) // it is but a hint
}

// clear removes what is in the way of a new beginning.
func (e entry) clear(names ...string) error {
	for _, name := range names {
		if err := os.RemoveAll(e.path(name)); err != nil {
			return fmt.Errorf("cannot clear the cache: %w", err)
		}
	}
	return nil
}

// remembered is what a configuration was last made into. Without it, the next start would have to ask for what it stands.
type remembered struct {
	Entry string `json:"entry"`
	Of    string `json:"of,omitempty"` // what the configuration stood for, such as a commit
}

const refSuffix = ".ref"

// last is the entry that a configuration was made into last, and of what. config is a hash.
func (o *options) last(kind, config string) (e entry, of string, ok bool) {
	note, err := o.entry(kind, config)
	if err != nil {
		return entry{}, "", false
	}
	var r remembered
	data, err := state.Read(note.dir + refSuffix)
	if err != nil || json.Unmarshal(data, &r) != nil || r.Entry != filepath.Base(r.Entry) {
		return entry{}, "", false
	}
	return entry{filepath.Join(filepath.Dir(note.dir), r.Entry)}, r.Of, true
}

// remember notes what a configuration was made into; without the note it is found out again.
func (o *options) remember(kind, config string, e entry, of string) {
	note, err := o.entry(kind, config)
	if err != nil {
		return
	}
	if data, err := json.Marshal(remembered{filepath.Base(e.dir), of}); err == nil {
		_ = atomicfile.Write(note.dir+refSuffix, data)
	}
}

func hashOf(parts ...any) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(parts) // these are texts and numbers
	return hex.EncodeToString(h.Sum(nil))
}
