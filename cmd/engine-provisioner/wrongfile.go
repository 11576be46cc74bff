package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/wrongfile"
)

// recordedAnyway are the replicas with a record that the flags name, of the pools of a file that is wrong: as far as it
// tells for sure which they are and where.
func (c *cli) recordedAnyway() (found []provisioner.Status, stateDir string) {
	run, err := c.readAnyway()
	if err != nil {
		return nil, ""
	}
	if stateDir = c.stateDir; stateDir == "" {
		if stateDir, err = c.orLocated(run.StateDir); err != nil {
			return nil, ""
		}
	}
	all, _ := fleet.Statuses(stateDir, withContainers()...) // what cannot be read of others does not matter
	for _, s := range all {
		if c.chosen(s.Pool, s.Replica) && slices.Contains(run.Pools, s.Pool) {
			found = append(found, s)
		}
	}
	return found, stateDir
}

// readAnyway is what the file says of its run, though it is wrong.
func (c *cli) readAnyway() (wrongfile.Run, error) {
	data, err := os.ReadFile(c.configFile)
	if err != nil {
		return wrongfile.Run{}, err
	}
	file, err := filepath.Abs(c.configFile)
	if err != nil {
		return wrongfile.Run{}, err
	}
	return wrongfile.Read(data, filepath.Dir(file))
}

// sayAnyway warns that a file is wrong of which replicas are stopped all the same.
func (c *cli) sayAnyway(found []provisioner.Status) {
	var names []string
	for _, s := range found {
		names = append(names, s.Pool+"/"+s.Replica)
	}
	c.say(fmt.Sprintf("warning: %q is wrong (see engine-provisioner validate); its pools' replicas are stopped all the same: %s",
		c.configFile, strings.Join(names, ", ")))
}
