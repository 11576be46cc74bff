package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// RecordSchema is the version of the records that are written. It is 2 since the fields of a launch's specification have names
// of their own.
const RecordSchema = 2

// Head is what a record of any version says of its launch.
type Head struct {
	Schema     int    `json:"schema"`
	Generation int64  `json:"generation"`
	State      string `json:"state"`
	LaunchID   string `json:"launch_id"`
	Pool       string `json:"pool"`
	Replica    string `json:"replica"`
	LastFailed int64  `json:"last_failed"`
}

// The words for a launch that has ended.
const (
	stopped = "stopped"
	failed  = "failed"
)

// Over reports whether the launch has ended.
func (h Head) Over() bool { return h.State == stopped || h.State == failed }

// Failed reports whether the launch has ended by itself, or could not be started.
func (h Head) Failed() bool { return h.State == failed }

// ErrNewer says that a record was written by a newer version, whose engine may run.
var ErrNewer = errors.New("it was written by a newer version")

// lastRecord is the record as this program last read or wrote it. A record is read ten times in the life of a launch, and is
// another by then three times: what has the same text need not be decoded again, which is most of reading it.
type lastRecord struct {
	mu   sync.Mutex
	text [sha256.Size]byte
	what any // never changed; nil before there is one
}

func (l *lastRecord) of(text [sha256.Size]byte) any {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text != text {
		return nil
	}
	return l.what
}

func (l *lastRecord) keep(text [sha256.Size]byte, what any) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text, l.what = text, what
}

// ReadRecord has the record decoded, which is of this schema or an older one, with its head; the same text is decoded once, so
// nobody may change what the record refers to. It returns fs.ErrNotExist when there is none, or a loss of power has left nothing
// of it, or what is wrong with it, and the way out.
func ReadRecord[R any](f Files, decode func(data []byte, schema int) (R, Head, error)) (R, error) {
	var none R
	data, err := Read(f.Record())
	if err == nil && atomicfile.Hollow(data) && beforeBoot(f.Record()) {
		err = fs.ErrNotExist // the loss of power that took what it said has ended the launch as well
	}
	if err != nil {
		return none, err
	}
	text := sha256.Sum256(data)
	if known, ok := f.last.of(text).(R); ok {
		return known, nil
	}
	schema, err := schemaOf(data)
	if schema > RecordSchema { // the rest may have other types
		return none, fmt.Errorf("cannot read the record %q: %w (schema %d, this version knows %d); use that version, or remove the file if nothing of the replica runs",
			f.Record(), ErrNewer, schema, RecordSchema)
	}
	var what R
	var head Head
	if err == nil {
		what, head, err = decode(data, schema)
	}
	switch {
	case err != nil:
	case schema < 1:
		err = fmt.Errorf("schema %d, this version knows %d", schema, RecordSchema)
	case head.LaunchID == "" || head.Pool+"-"+head.Replica != f.Stem:
		err = fmt.Errorf("it is not the record of %q", f.Stem)
	}
	if err != nil {
		return none, fmt.Errorf("cannot read the record %q: %w; remove the file: the next manager ends the engine, if one is left", f.Record(), err)
	}
	f.last.keep(text, what)
	return what, nil
}

// schemaOf reads the first key of a record, as all versions have written it, or else the whole.
func schemaOf(data []byte) (schema int, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	open, _ := d.Token()
	key, _ := d.Token()
	if open == json.Delim('{') && key == "schema" && d.Decode(&schema) == nil {
		return schema, nil
	}
	var head Head
	err = json.Unmarshal(data, &head)
	return head.Schema, err
}

// Head reads no more of the record than its head.
func (f Files) Head() (Head, error) {
	return ReadRecord(f, func(data []byte, _ int) (head Head, _ Head, err error) {
		err = json.Unmarshal(data, &head)
		return head, head, err
	})
}

// Keeping is what becomes of a record that may be changed, and how well that is kept.
type Keeping int

// The kinds. A loss of power ends processes, so what is said of those that run need not outlive it. It waits for no fsync: each
// took from 0.2 ms to a second, by the disk and by how many replicas are started or stopped together.
const (
	Nothing Keeping = iota // it stays as it is
	// Lasts is for the first record of a launch, which names what is to be cleared away after it, and for the last one, which says
	// how it ended.
	Lasts
	// Passes is for those between: that it runs, that it is withdrawn, and how far its stop is.
	Passes
)

// ChangeRecord writes the record that change returns, as that says. What was written is what ReadRecord
// returns of the same type, so nobody may change what it refers to. No other process changes the record
// meanwhile.
func (f Files) ChangeRecord(change func() (next any, how Keeping)) error {
	lock, err := f.lockRecord()
	if err != nil {
		return fmt.Errorf("cannot write the record %q: %w", f.Record(), err)
	}
	defer lock.Release()
	next, how := change()
	if how == Nothing {
		return nil
	}
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the record %q: %w", f.Record(), err)
	}
	data = append(data, '\n')
	write := atomicfile.Replace
	if how == Passes {
		write = atomicfile.Exchange
	}
	if err := write(f.Record(), data); err != nil {
		return err
	}
	f.last.keep(sha256.Sum256(data), next)
	return nil
}

// beforeBoot reports whether a file was last written before this boot of the machine.
func beforeBoot(path string) bool {
	const rounding = time.Second
	up, err := procfs.Uptime()
	if err != nil {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && time.Since(info.ModTime()) > up+rounding
}

// recordPatience bounds the wait for another process's change of the record. That takes a millisecond, or as long as a busy
// disk takes to keep it.
const recordPatience = 10 * time.Second

// lockRecord keeps other processes from changing the record.
func (f Files) lockRecord() (*Lock, error) {
	lock, err := TakeLock(f.RecordLock(), recordPatience)
	if errors.Is(err, ErrHeld) {
		return nil, fmt.Errorf("another process has held %q for %s; see fuser", f.RecordLock(), recordPatience)
	}
	return lock, err
}

// ClearTorn removes the halves of files whose writer was killed. It is called with the replica's lock held.
func (f Files) ClearTorn() error {
	lock, err := f.lockRecord() // another process may be writing
	if err != nil {
		return err
	}
	defer lock.Release()
	return errors.Join(atomicfile.Clear(f.Record()), atomicfile.Clear(f.Handoff()))
}
