package main

import (
	"errors"
	"fmt"
	"slices"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/runs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// locate is the state directory of the run of a file that names none itself, from whichever folder it was started.
func (c *cli) locate() (string, error) {
	if c.place.Dir != "" {
		return c.place.Dir, nil
	}
	if c.configFile == stdin { // which is of no folder but this one
		return state.Dir("")
	}
	place, err := runs.Locate(c.configFile, holds)
	if errors.Is(err, runs.ErrSeveral) {
		return "", &usageError{err: err}
	}
	if err != nil {
		return "", err
	}
	if !place.Usual {
		c.say(fmt.Sprintf("using the state directory %q, with which %q was started", place.Dir, c.configFile))
	}
	c.place = place
	return place.Dir, nil
}

// orLocated is dir, which a file names, or the state directory of its run where it names none.
func (c *cli) orLocated(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	return c.locate()
}

func holds(dir string) runs.Holding {
	all, _ := fleet.Statuses(dir, withContainers()...) // what cannot be read here is told when it is used
	switch {
	case state.Managed(dir), slices.ContainsFunc(all, func(s provisioner.Status) bool { return s.PID > 0 }):
		return runs.Running
	case len(all) > 0:
		return runs.Ended
	}
	return runs.Nothing
}
