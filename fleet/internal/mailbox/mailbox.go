// Package mailbox owns the files by which other programs ask something of the manager of a state directory, and get its answer.
//
// Package fleet puts and takes questions here, and nobody else. What questions and answers say is fleet's; here they are bytes.
// The package decides nothing and starts nothing.
//
// A question travels by files in <state>/requests: <id>.json is the question, which the manager renames to <id>.taken, and
// <id>.answer the answer. A signal would need a process number from a file, which can be a stranger's by now; a socket's path
// must be short.
package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

const (
	// QuestionExt is how the names of questions end that nobody has taken.
	QuestionExt = ".json"
	// AnswerExt is how the names of answers end.
	AnswerExt = ".answer"

	takenExt = ".taken"

	// Patience is how long a question waits to be taken until it is withdrawn.
	Patience = 15 * time.Second
	// AnswerPatience is how long an answer waits to be fetched until it is removed: who asked was interrupted.
	AnswerPatience = time.Hour
)

// ErrNotManaged says that no manager is there to be asked.
var ErrNotManaged = errors.New("no manager is at work there; start one first")

// Ask puts a question to the manager of a state directory, and waits for its answer. what names it for people, such as
// "reload". The error is ErrNotManaged when there is no manager, or ctx's cause: then a question that was not taken is withdrawn.
func Ask(ctx context.Context, dir, what string, question []byte) (answer []byte, err error) {
	if err := state.CheckFolder(dir); err != nil {
		return nil, fmt.Errorf("cannot ask for a %s: %w", what, err)
	}
	if denied := access.Denied(state.ManagerLock(dir), "read"); denied != "" { // then nobody can tell whether there is one
		return nil, fmt.Errorf("cannot ask for a %s in %q: %w: %s; %s", what, dir, fs.ErrPermission, denied, access.Remedy)
	}
	if !state.Managed(dir) {
		return nil, fmt.Errorf("cannot ask for a %s in %q: %w", what, dir, ErrNotManaged)
	}
	stem := filepath.Join(dir, state.RequestsName, proc.NewMark())
	if err := atomicfile.Replace(stem+QuestionExt, question); err != nil {
		return nil, fmt.Errorf("cannot ask for a %s: %w", what, err)
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; {
		there := state.Managed(dir) // first: a manager that ends answers before it lets go
		data, err := state.Read(stem + AnswerExt)
		switch {
		case err == nil:
			_ = os.Remove(stem + AnswerExt) // else the next manager does it
			return data, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("cannot read the answer: %w", err)
		case !there:
			_ = os.Remove(stem + QuestionExt)
			return nil, fmt.Errorf("the manager ended before it had answered: %w", ErrNotManaged)
		}
		select {
		case <-ctx.Done():
			_ = os.Remove(stem + QuestionExt)
			return nil, context.Cause(ctx)
		case <-ticker.C:
		}
		switch late := time.Since(began) > Patience; {
		case late && os.Remove(stem+QuestionExt) == nil:
			return nil, fmt.Errorf("cannot ask for a %s: the manager does not take requests; it is suspended, hangs, or is of another version", what)
		case late && !access.Exists(stem+takenExt) && !access.Exists(stem+AnswerExt): // in this order: the one goes when the other is there
			return nil, fmt.Errorf("asked for a %s, but the manager could not write the answer; see its log and the free space", what)
		}
	}
}

// Box is a manager's side.
type Box struct{ dir string }

// Open opens the box of a state directory, and puts away what was asked of an earlier manager: what it has taken, its answers,
// and questions that nobody waits for any more. A question younger than that is answered: whoever has put it may have seen
// this manager, which has the lock by now, or waits for whoever comes.
func Open(dir string) Box {
	b := Box{filepath.Join(dir, state.RequestsName)}
	entries, _ := os.ReadDir(b.dir)
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && filepath.Ext(entry.Name()) == QuestionExt && time.Since(info.ModTime()) < Patience {
			continue
		}
		_ = os.Remove(filepath.Join(b.dir, entry.Name()))
	}
	return b
}

// Waiting are the questions that nobody has taken.
func (b Box) Waiting() (all []Question) {
	entries, _ := os.ReadDir(b.dir) // whoever has removed the folder asks for nothing
	for _, entry := range entries {
		path := filepath.Join(b.dir, entry.Name())
		switch filepath.Ext(path) {
		case QuestionExt:
			all = append(all, Question{strings.TrimSuffix(path, QuestionExt)})
		case AnswerExt:
			if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > AnswerPatience {
				_ = os.Remove(path)
			}
		}
	}
	return all
}

// Question is one that was put.
type Question struct{ stem string }

// Take takes the question, which nobody else does then. It is false where it was withdrawn, or somebody else was first. With
// an error it is to be answered by that.
func (q Question) Take() (data []byte, ours bool, err error) {
	if err := os.Rename(q.stem+QuestionExt, q.stem+takenExt); err != nil {
		return nil, false, nil //nolint:nilerr // somebody else has it, or it was withdrawn
	}
	data, err = state.Read(q.stem + takenExt)
	return data, true, err
}

// Answer answers a question that was taken.
func (q Question) Answer(data []byte) error {
	return errors.Join(atomicfile.Replace(q.stem+AnswerExt, data), os.Remove(q.stem+takenExt))
}
