package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/runs"
)

// recorded are the replicas with a record that the flags name: of the file's when there is one, else of all.
func (c *cli) recorded() (found []provisioner.Status, stateDir string, err error) {
	of := func(string) bool { return true }
	c.findState()
	if c.configFile == "" || c.onlyState {
		if stateDir, err = c.state(); err != nil {
			return nil, "", err
		}
	} else {
		configs, err := c.loadRun()
		if err != nil {
			return nil, "", err
		}
		stateDir = configs[0].StateDir
		of = func(name string) bool {
			return slices.ContainsFunc(configs, func(cfg provisioner.ProvisionConfig) bool { return cfg.Name() == name })
		}
	}
	all, err := fleet.Statuses(stateDir, withContainers()...)
	if err == nil && (c.configFile == "" || c.onlyState) && c.chooses() {
		if err := c.unknown(namesOf(all)); err != nil {
			return nil, stateDir, c.orNotRun(stateDir, namesOf(all), err)
		}
	}
	for _, s := range all {
		if c.chosen(s.Pool, s.Replica) && of(s.Pool+"/"+s.Replica) {
			found = append(found, s)
		}
	}
	return found, stateDir, err
}

// orNotRun is err, about names that none of those has that have run, or what to do where the file has them.
func (c *cli) orNotRun(stateDir string, ran []string, err error) error {
	if !c.onlyState || c.unknown(append(c.knownReplicas(), ran...)) != nil {
		return err
	}
	if abs, err := filepath.Abs(cmp.Or(stateDir, ".runtime")); err == nil {
		stateDir = abs
	}
	return fmt.Errorf("what is named is in %s, and has not run with the state directory %q; \"engine-provisioner start\" with the same names starts it",
		usualFile, stateDir)
}

func namesOf(all []provisioner.Status) (names []string) {
	for _, s := range all {
		names = append(names, s.Pool+"/"+s.Replica)
	}
	return names
}

// nothing says that no record matches.
func (c *cli) nothing(stateDir string) error {
	stateDir = cmp.Or(stateDir, ".runtime")
	if abs, err := filepath.Abs(stateDir); err == nil {
		stateDir = abs
	}
	if known, err := fleet.Statuses(stateDir); err == nil && len(known) > 0 {
		return fmt.Errorf("no such replica has run with the state directory %q; "+
			"\"engine-provisioner status\" shows those that have", stateDir)
	}
	if c.place.Dir == stateDir && !c.place.Sure && !c.onlyState {
		return runs.Nowhere(c.configFile, fmt.Sprintf("nothing has run with %q", stateDir))
	}
	return fmt.Errorf("no replica has run with the state directory %q; name another one with --state-dir or --config", stateDir)
}
