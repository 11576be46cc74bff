package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/filearg"
)

// stdin is what --config names to have the configuration read from there.
const stdin = filearg.Stdin

// config reads the pools file. What came from stdin is read once.
func (c *cli) config() (*provisioner.Config, error) {
	if c.configFile != stdin {
		return provisioner.LoadConfig(c.configFile)
	}
	if c.stdin != nil {
		return c.stdin, nil
	}
	const enough = 1<<20 + 1 // more than a pools file may have
	data, err := io.ReadAll(io.LimitReader(c.std.in, enough))
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration from stdin: %w", err)
	}
	c.stdin, err = provisioner.ParseConfig(data, "stdin")
	return c.stdin, err
}

// load reads the pools file and gives the chosen replicas, as a run in this folder would have them.
func (c *cli) load() ([]provisioner.ProvisionConfig, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	return c.choose(config)
}

// toRun is load with the pools that the chosen ones need: nothing becomes ready without them.
func (c *cli) toRun() ([]provisioner.ProvisionConfig, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	chosen, err := c.choose(config)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(chosen); i++ { // what is added may need others
		for _, pool := range chosen[i].Needs {
			if slices.ContainsFunc(chosen, func(r provisioner.ProvisionConfig) bool { return r.PoolID == pool }) {
				continue
			}
			more, err := config.Replicas(pool)
			if err != nil {
				return nil, err
			}
			for _, r := range more {
				if c.stateDir != "" {
					r.StateDir = c.stateDir
				}
				chosen = append(chosen, r)
			}
		}
	}
	return chosen, nil
}

// loadRun is load for a command that looks at the run of the file, wherever that was started.
func (c *cli) loadRun() ([]provisioner.ProvisionConfig, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	chosen, err := c.choose(config)
	if err != nil || c.stateDir != "" || config.StateDir != "" {
		return chosen, err
	}
	dir, err := c.locate()
	if err != nil {
		return nil, err
	}
	for i := range chosen {
		chosen[i].StateDir = dir
	}
	return chosen, nil
}

// choose gives the replicas of a file that the flags and arguments name.
func (c *cli) choose(config *provisioner.Config) ([]provisioner.ProvisionConfig, error) {
	if err := c.misplaced(); err != nil {
		return nil, err
	}
	pools := c.pools
	if len(pools) == 0 {
		pools = []string{""}
	}
	var chosen []provisioner.ProvisionConfig
	var names []string
	seen := map[string]bool{}
	for _, pool := range pools {
		replicas, err := config.Replicas(pool)
		if err != nil {
			return nil, &usageError{err: err}
		}
		for _, r := range replicas {
			names = append(names, r.Name())
			if seen[r.Name()] || !c.chosen(r.PoolID, r.ReplicaID) {
				continue
			}
			seen[r.Name()] = true
			if c.stateDir != "" {
				r.StateDir = c.stateDir
			}
			chosen = append(chosen, r)
		}
	}
	if err := c.unknown(names); err != nil {
		return nil, err
	}
	return chosen, nil
}

// reload is toRun, for whoever asks the manager to read its file again.
func (c *cli) reload() ([]provisioner.ProvisionConfig, error) {
	if c.configFile == stdin {
		return nil, errors.New("the configuration came from stdin, which cannot be read again; stop the manager, and start it with the new one")
	}
	return c.toRun()
}

// file is the pools file by its absolute path: who asks for a reload may be in another folder.
func (c *cli) file() string {
	path, err := filepath.Abs(c.configFile)
	if err != nil || c.configFile == stdin {
		return "" // then a reload of any file is one of this
	}
	return path
}

// state is the state directory that --state-dir, the file or the default names.
func (c *cli) state() (string, error) {
	c.findState()
	if c.stateDir != "" || c.configFile == "" {
		return c.stateDir, nil
	}
	config, err := c.config()
	if err == nil {
		var replicas []provisioner.ProvisionConfig
		if replicas, err = config.Replicas(""); err == nil {
			if config.StateDir == "" {
				return c.locate()
			}
			return replicas[0].StateDir, nil
		}
	}
	if run, wrong := c.readAnyway(); c.onlyState && wrong == nil {
		c.say(fmt.Sprintf("warning: %q is wrong (see engine-provisioner validate)", c.configFile))
		return c.orLocated(run.StateDir)
	}
	return "", err
}
