// Package models finds the models that engines serve, and brings them onto this node: it owns what a reference means, the
// layout of the caches that models lie in, the questions to the Hugging Face hub, and what the headers of files tell before
// an engine is started.
//
// The provisioner calls it, and whoever lists or removes what it has brought. It starts no engine and no program, reads no
// configuration and no environment but by [Finder.Env], and removes nothing.
package models

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
)

// Fault says what is wrong with a model.
type Fault string

// The faults, which are spelt as the causes of failed starts are.
const (
	Missing  Fault = "model_missing"
	Corrupt  Fault = "model_corrupt"
	Download Fault = "download"
	BadFlag  Fault = "bad_flag" // a flag that asks for more than the model has
)

// Error says that the model is not there, cannot be had or is of no use.
type Error struct {
	Fault Fault
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("cannot use the model: %v", e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Finder finds the models of one replica. It is inert: all it knows is looked up when it is asked.
type Finder struct {
	Cache string                   // the folder of what can be downloaded again; "" where there is none
	Hub   string                   // the cache of the Hugging Face hub; "" is where the variables say
	Env   func(name string) string // a variable of the replica, or else of this program

	Limits fetch.Limits // of downloads
}

// Model is where the model of a launch is, or will be when its files are there.
type Model struct {
	Path     string      // absolute; "" when the engine resolves the reference itself or has none
	Header   *gguf.Model // when it is here and is a GGUF file
	Revision string      // commit of a model that the engine fetches by itself; "" where it is not known
	Beside   []Companion // what is of use beside it and not fetched
	Pending  string      // what is to be downloaded, for people; "" for nothing

	kind  Kind
	files []remoteFile // to be downloaded; none when all is here
	done  func() error // when they are there
	note  *Note        // of a model that comes from the hub
}

// Find finds out where the model is, in microseconds where it is here. For one that is not, it asks the server what
// there is, and downloads nothing. With refresh it also asks whether a branch or tag has moved.
func (f Finder) Find(ctx context.Context, r Request, refresh bool) (Model, error) {
	ref, err := r.Ref()
	if err != nil {
		return Model{}, &Error{Missing, fmt.Errorf("%w; check \"model.id\"", err)}
	}
	m := Model{Path: ref.Path}
	switch {
	case ref.hub != nil:
		m, err = f.findHub(ctx, *ref.hub, refresh)
	case ref.repo != nil:
		m, err = f.pinHub(ctx, *ref.repo, refresh)
	case ref.URL != "":
		m, err = f.findURL(ref.URL, r.SHA256)
	}
	if err != nil {
		return Model{}, problem(err)
	}
	m.kind = r.Kind
	if len(m.files) > 0 {
		err = m.size()
	} else {
		err = m.check()
	}
	if id := r.ID; errors.Is(err, fs.ErrNotExist) && repoPattern.MatchString(id) { // as vllm itself takes it
		err = &Error{Missing, fmt.Errorf(`%w, or write "hf:%s" for a repository of the Hugging Face hub`, errors.Unwrap(err), id)}
	}
	return m, err
}

// check finds out what the engine would say after its start.
func (m *Model) check() (err error) {
	if m.Path == "" {
		return nil
	}
	f, err := os.OpenFile(m.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would make it wait for a writer
	if err != nil {
		if denied := access.Denied(m.Path, "read"); denied != "" {
			return &Error{Missing, fmt.Errorf("%w: %s; %s", err, denied, access.Remedy)}
		}
		if why := access.Missing(m.Path); why != "" && errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s", err, why)
		}
		return &Error{Missing, fmt.Errorf("%w; check \"model.id\"", err)}
	}
	defer f.Close()
	info, err := f.Stat()
	wrong := func(fault Fault, format string, args ...any) error {
		return &Error{fault, fmt.Errorf(format+"; check \"model.id\"", args...)}
	}
	switch {
	case err != nil:
		return wrong(Missing, "%w", err)
	case !info.Mode().IsRegular() && !info.IsDir(): // some engines take a folder
		return wrong(Missing, "%q is a %s", m.Path, access.Kind(info))
	case info.IsDir() && m.kind == GGUF:
		return wrong(Missing, "%q is a folder; name the GGUF file in it", m.Path)
	case info.Size() == 0 && info.Mode().IsRegular():
		return &Error{Corrupt, fmt.Errorf("%q is empty; fetch it again", m.Path)}
	case m.kind == GGUF:
		m.Header, err = checkGGUF(m.Path)
	}
	return err
}
