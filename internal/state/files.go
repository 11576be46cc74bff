// Package state owns the files of a state directory: where they are, whose they must be, the locks on them, how they are read and
// written, and the limits of the logs.
//
// Whoever starts, adopts, stops or looks at a replica asks here for its files; nobody else joins their paths. The package
// knows no configuration and no engine: what a record, an event or a handoff says is its caller's, and here a value that is
// encoded. It starts and signals no process, and never writes into a file that another user, a link or a pipe has put in the
// place of its own.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/natural"
)

// Files are the files of one replica:
//
//	<state>/<pool>-<replica>/record.json  the record
//	<state>/<pool>-<replica>/record.lock  held by whoever changes the record
//	<state>/<pool>-<replica>/engine.lock  held by the engine's processes as long as one of them lives
//	<state>/<pool>-<replica>/stop.lock    held by the program that stops the engine
//	<state>/<pool>-<replica>/engine.pid   for people and monitoring; never read back
//	<state>/<pool>-<replica>/logs/<n>.log the output of launch n
//	<state>/<pool>-<replica>/restarts.json what a manager remembers
//	<state>/<pool>-<replica>/held.json    says that somebody has stopped the replica
//	<state>/<pool>-<replica>/hold.json    who holds the replica, and why; <state>/hold.json who holds all of them
//	<state>/engines/<pool>-<replica>.json the handoff
//	<state>/events.jsonl, events.1.jsonl  what happened; events.lock is held by whoever writes it
//	<state>/id                            what containers of this directory bear
type Files struct {
	State string // absolute
	Stem  string // <pool>-<replica>

	last *lastRecord // shared by all copies
}

// Stem is a replica's part in the names of its files.
func Stem(pool, replica string) string { return pool + "-" + replica }

// In are the files of a replica in a state directory, whose path is absolute.
func In(state, stem string) Files { return Files{State: state, Stem: stem, last: new(lastRecord)} }

const (
	// RecordName is the name of a record in its replica's folder.
	RecordName = "record.json"
	// RequestsName is the name of the folder of what other programs ask of the manager.
	RequestsName = "requests"

	lockName     = "engine.lock"
	handoffsName = "engines"
)

// Dir is the replica's folder.
func (f Files) Dir() string { return filepath.Join(f.State, f.Stem) }

// Record is the path of the record.
func (f Files) Record() string { return filepath.Join(f.Dir(), RecordName) }

// RecordLock is the path of the lock on the record.
func (f Files) RecordLock() string { return filepath.Join(f.Dir(), "record.lock") }

// LockPath is the path of the lock that the engine's processes hold.
func (f Files) LockPath() string { return filepath.Join(f.Dir(), lockName) }

// PID is the path of the PID file.
func (f Files) PID() string { return filepath.Join(f.Dir(), "engine.pid") }

// Logs is the folder of the logs.
func (f Files) Logs() string { return filepath.Join(f.Dir(), "logs") }

// Log is the path of the log of launch n.
func (f Files) Log(n int64) string { return filepath.Join(f.Logs(), strconv.FormatInt(n, 10)+".log") }

// Handoffs is the folder of all handoffs.
func (f Files) Handoffs() string { return filepath.Join(f.State, handoffsName) }

// Handoff is the path of the handoff.
func (f Files) Handoff() string { return filepath.Join(f.Handoffs(), f.Stem+".json") }

// Dir resolves the path of a state directory; "" means .runtime in the working directory.
func Dir(dir string) (string, error) {
	if dir == "" {
		dir = ".runtime"
	}
	state, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("cannot find the state directory %q: %w", dir, err)
	}
	return state, nil
}

// StopLock is held by the program that stops the replica, for as long as it is at it. So others can tell a stop that
// goes on, which they leave alone, from one whose program has died.
func (f Files) StopLock() string { return filepath.Join(f.Dir(), "stop.lock") }

// List names the replicas that have a file, such as their record.
func List(state, file string) ([]string, error) {
	if err := CheckFolder(state); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(state)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // nobody may say that nothing runs
		return nil, fmt.Errorf("cannot list the replicas: %w", access.Explain(err))
	}
	var stems []string
	for _, entry := range entries {
		if _, err := os.Lstat(filepath.Join(state, entry.Name(), file)); err == nil {
			stems = append(stems, entry.Name())
		}
	}
	slices.SortFunc(stems, natural.Compare)
	return stems, nil
}

// Unrecorded names the replicas that have left something beside a record: a lock or a handoff. One that has both is named
// twice.
func Unrecorded(state string) ([]string, error) {
	stems, err := List(state, lockName)
	if err != nil {
		return nil, err
	}
	entries, _ := os.ReadDir(filepath.Join(state, handoffsName)) // without the folder there is none
	for _, entry := range entries {
		if stem, is := strings.CutSuffix(entry.Name(), ".json"); is {
			stems = append(stems, stem)
		}
	}
	return stems, nil
}
