package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
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

// ReadRecord has the record decoded, which is of this schema or an older one. It returns fs.ErrNotExist when there is none, or
// what is wrong with it, and the way out.
func (f Files) ReadRecord(decode func(data []byte, schema int) error) error {
	data, err := Read(f.Record())
	if err != nil {
		return err
	}
	var head Head
	err = json.Unmarshal(data, &head)
	if head.Schema > RecordSchema { // the rest may have other types
		return fmt.Errorf("cannot read the record %q: %w (schema %d, this version knows %d); use that version, or remove the file if nothing of the replica runs",
			f.Record(), ErrNewer, head.Schema, RecordSchema)
	}
	if err == nil {
		err = decode(data, head.Schema)
	}
	switch {
	case err != nil:
	case head.Schema < 1:
		err = fmt.Errorf("schema %d, this version knows %d", head.Schema, RecordSchema)
	case head.LaunchID == "" || head.Pool+"-"+head.Replica != f.Stem:
		err = fmt.Errorf("it is not the record of %q", f.Stem)
	}
	if err != nil {
		return fmt.Errorf("cannot read the record %q: %w; remove the file: the next run ends the engine, if one is left", f.Record(), err)
	}
	return nil
}

// Head reads no more of the record than its head.
func (f Files) Head() (head Head, err error) {
	err = f.ReadRecord(func(data []byte, _ int) error { return json.Unmarshal(data, &head) })
	return head, err
}

// ChangeRecord writes the record that change returns, unless change says otherwise. No other process changes the record
// meanwhile.
func (f Files) ChangeRecord(change func() (next any, write bool)) error {
	lock, err := f.lockRecord()
	if err != nil {
		return fmt.Errorf("cannot write the record %q: %w", f.Record(), err)
	}
	defer lock.Release()
	next, write := change()
	if !write {
		return nil
	}
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the record %q: %w", f.Record(), err)
	}
	return atomicfile.Write(f.Record(), append(data, '\n'))
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
