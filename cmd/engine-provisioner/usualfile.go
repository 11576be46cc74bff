package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

// usualFile is the pools file that is used where none is named.
const usualFile = "pools.yaml"

// thereIsUsualFile reports whether the working directory has it, whatever it is: what cannot be read is told, not passed over.
func thereIsUsualFile() bool {
	_, err := os.Lstat(usualFile)
	return !errors.Is(err, fs.ErrNotExist)
}

// findFile takes the usual file where none is named, and tells so. It reports whether there is one.
func (c *cli) findFile() bool {
	if c.configFile != "" {
		return true
	}
	if !thereIsUsualFile() {
		return false
	}
	c.configFile = usualFile
	c.say("using ./" + usualFile)
	return true
}

// needFile is findFile for a command that can do nothing without.
func (c *cli) needFile(cmd *cobra.Command) error {
	if c.findFile() {
		return nil
	}
	return &usageError{
		err: errors.New("no --config, and there is no " + usualFile + ` here: "engine-provisioner init" writes one, ` +
			`"engine-provisioner import" makes one of a command line, and "engine-provisioner run MODEL" needs none`),
		help: cmd.CommandPath() + " --help",
	}
}

// findState takes the usual file for the state directory that it names, where neither is named. Its replicas are no choice:
// others have that directory, too.
func (c *cli) findState() {
	if c.configFile == "" && c.stateDir == "" {
		c.onlyState = c.findFile()
	}
}
