// Package wrongfile reads of a pools file that is wrong what a stop needs: where its replicas live, and the names of its
// pools. The mistake may be younger than the replicas, and must not keep anybody from stopping them.
//
// The command's stop calls it, after the loader has refused the file. It judges nothing, and nothing is started by what it reads.
package wrongfile

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// Run is what a file says of its run. The zero value says nothing.
type Run struct {
	StateDir string   // absolute, or "" where the file leaves it out
	Pools    []string // the names of those that have one
}

// about are the problems that leave no sure answer: of the document as a whole, or of a key that is read here.
var about = lazyregexp.New(`^(state_dir|pools|pools\[\d+\](\.id)?)?$`)

// Read reads what data says, whatever else is wrong with it. Relative folders are those of dir. The error says what cannot be
// told.
func Read(data []byte, dir string) (Run, error) {
	var file struct {
		StateDir string `json:"state_dir"`
		Pools    []struct {
			ID string `json:"id"`
		} `json:"pools"`
	}
	_, problems := strictyaml.Decode(data, &file, nil)
	for _, p := range problems {
		switch {
		case p.Unknown && p.Meant != "state_dir":
		case p.Unknown: // another folder may have replicas of the same names
			return Run{}, fmt.Errorf("the key %q may stand for \"state_dir\"", p.Key)
		case about.MatchString(p.Key):
			return Run{}, errors.New(p.Message)
		}
	}
	run := Run{StateDir: file.StateDir}
	if run.StateDir != "" && !filepath.IsAbs(run.StateDir) {
		run.StateDir = filepath.Join(dir, run.StateDir)
	}
	for _, p := range file.Pools {
		if p.ID != "" {
			run.Pools = append(run.Pools, p.ID)
		}
	}
	if len(run.Pools) == 0 {
		return Run{}, errors.New("it names no pools")
	}
	return run, nil
}
