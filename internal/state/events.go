package state

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/access"
)

const (
	// EventsName is the name of the file of events in a state directory.
	EventsName = "events.jsonl"
	// OldEventsName is what that file is called once it is full.
	OldEventsName = "events.1.jsonl"
	// MaxEvents is the size of a full file, in bytes.
	MaxEvents = 1 << 20
	// EventsLockName is the name of the lock that is held by whoever writes events.
	EventsLockName = "events.lock"
)

// eventsPatience bounds the wait for the lock of the events, which is held while 16 MiB of them are read: tenths of a second,
// and on a busy machine ten times that.
const eventsPatience = 30 * time.Second

// Events writes the events of a state directory, one JSON object a line. The holder of the manager's lock writes them, and
// programs that stop an engine which no manager looks after; each takes the lock of the events for it. The file is opened for
// each event: they are rare, and so whoever moves or removes it does no harm.
type Events struct{ Dir string }

// Add keeps an event.
func (f Events) Add(event any) error {
	return f.AddUnless(event, func() bool { return false })
}

// AddUnless keeps an event unless told says that it is there already. No other program writes events meanwhile.
func (f Events) AddUnless(event any, told func() bool) error {
	lock, err := TakeLock(filepath.Join(f.Dir, EventsLockName), eventsPatience)
	if err != nil {
		return fmt.Errorf("cannot keep events: %w", err)
	}
	defer lock.Release()
	if told() {
		return nil
	}
	return f.append(event)
}

// Last reads the last event that is kept into v. It reports whether there is one.
func (f Events) Last(v any) bool {
	for _, name := range []string{EventsName, OldEventsName} {
		file, err := Open(filepath.Join(f.Dir, name))
		if err != nil {
			continue
		}
		line := lastLine(file)
		file.Close()
		if json.Unmarshal(line, v) == nil {
			return true
		}
	}
	return false
}

// longestLine is several times what an event with a handoff takes.
const longestLine = 256 << 10

// lastLine is the last line of a file that has an end; nil when there is none.
func lastLine(file *os.File) []byte {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	from := max(0, info.Size()-longestLine)
	text, err := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	if err != nil {
		return nil
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	return text[bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n')+1:]
}

// append is called with the lock of the events held.
func (f Events) append(event any) error {
	line, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("cannot keep an event: %w", err)
	}
	line = append(line, '\n')
	path := filepath.Join(f.Dir, EventsName)
	file, size, err := openEventsToWrite(path)
	if err == nil && size > 0 && size+int64(len(line)) > MaxEvents {
		file.Close()
		if err = os.Rename(path, filepath.Join(f.Dir, OldEventsName)); err == nil {
			file, size, err = openEventsToWrite(path)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot keep events: %w", err)
	}
	_, err = file.Write(line)
	if err != nil { // a full disk takes as much of the line as fits
		err = errors.Join(fmt.Errorf("cannot keep events: %w", err), file.Truncate(size))
	}
	return errors.Join(err, file.Close())
}

// openEventsToWrite opens the file and cuts off a last line without an end: its writer was killed, or the power failed.
func openEventsToWrite(path string) (*os.File, int64, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, 0, err
	}
	size, err := checkEvents(file)
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, size, nil
}

func checkEvents(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if err := CheckOwn(file.Name(), info); err != nil {
		return 0, err
	}
	if info.Mode().Perm() != 0o600 {
		if err := file.Chmod(0o600); err != nil {
			return 0, err
		}
	}
	size := info.Size()
	var last [1]byte
	if size == 0 {
		return 0, nil
	}
	if _, err := file.ReadAt(last[:], size-1); err != nil || last[0] == '\n' {
		return size, err
	}
	data, err := io.ReadAll(io.NewSectionReader(file, 0, size))
	if err != nil {
		return 0, err
	}
	whole := int64(bytes.LastIndexByte(data, '\n') + 1)
	return whole, file.Truncate(whole)
}

// ReadEvents returns the events that are kept in a state directory, oldest first: at least those of the last 1 MiB. With
// follow it goes on with what comes until ctx ends, which is no error. An error is about a line or an attempt to read; events
// may follow it.
func ReadEvents[E any](ctx context.Context, dir string, follow bool) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		r := eventReader[E]{dir: dir, yield: yield}
		defer r.switchTo(nil)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for r.read() && follow {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}
}

// eventReader reads the files of events as they grow and take each other's place.
type eventReader[E any] struct {
	dir    string
	yield  func(E, error) bool
	file   *os.File // while it is open, no other file can get its inode
	offset int64    // behind the last whole line that was read
	told   string   // the last failure, which is told once
}

// read reads all that there is; false when the caller has had enough.
func (r *eventReader[E]) read() bool {
	current, ok := r.open(EventsName)
	if !ok {
		return false
	}
	if current != nil && sameOpen(current, r.file) {
		current.Close()
		return r.lines()
	}
	// Opened after the current one, so that a file that changes its name meanwhile is seen, if twice.
	old, ok := r.open(OldEventsName)
	if !ok || !r.lines() {
		closeAll(current, old)
		return false
	}
	if old != nil && (sameOpen(old, r.file) || sameOpen(old, current)) {
		old.Close()
		old = nil
	}
	for i, next := range []*os.File{old, current} {
		if next == nil {
			continue
		}
		if r.switchTo(next); !r.lines() {
			if i == 0 {
				closeAll(current)
			}
			return false
		}
	}
	return true
}

// open is nil for a file that is not there, or that cannot be read, which is told.
func (r *eventReader[E]) open(name string) (*os.File, bool) {
	file, err := Open(filepath.Join(r.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true
	}
	if err == nil {
		var info fs.FileInfo
		if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%q is a %s", file.Name(), access.Kind(info))
		}
		if err == nil {
			return file, true
		}
		file.Close()
	}
	return nil, r.fail(fmt.Errorf("cannot read events: %w", cmp.Or(CheckFolder(r.dir), err)))
}

func (r *eventReader[E]) switchTo(next *os.File) {
	closeAll(r.file)
	r.file, r.offset = next, 0
}

// lines reads the whole lines that r.file has got. One without an end is left for later, when it is complete, or was
// cut off by its writer.
func (r *eventReader[E]) lines() bool {
	if r.file == nil {
		return true
	}
	if info, err := r.file.Stat(); err == nil && info.Size() < r.offset {
		r.offset = 0 // somebody has emptied it
	}
	lines := bufio.NewReader(io.NewSectionReader(r.file, r.offset, 1<<40))
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			return r.fail(fmt.Errorf("cannot read events: %w", err))
		}
		r.offset += int64(len(line))
		var e E
		if err := json.Unmarshal(line, &e); err != nil {
			if !r.fail(fmt.Errorf("cannot read a line of %q: %w", r.file.Name(), err)) {
				return false
			}
			continue
		}
		if !r.yield(e, nil) {
			return false
		}
	}
}

func (r *eventReader[E]) fail(err error) bool {
	if err.Error() == r.told {
		return true
	}
	r.told = err.Error()
	var none E
	return r.yield(none, err)
}

func sameOpen(a, b *os.File) bool {
	if a == nil || b == nil {
		return false
	}
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
