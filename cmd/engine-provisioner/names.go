package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/natural"
	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// replicaArguments lets a command name what it is about: POOL or POOL/REPLICA, as replicas are printed everywhere.
func (c *cli) replicaArguments(cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		for _, arg := range args {
			if info, err := os.Stat(arg); err == nil && !info.IsDir() && strings.Contains(arg, ".") { // no pool has a dot
				return noArguments(cmd, []string{arg}) // a pools file without --config
			}
			if pool, replica, whole := strings.Cut(arg, "/"); pool == "" || whole && (replica == "" || strings.Contains(replica, "/")) {
				return fmt.Errorf("unexpected argument %q: name a pool or a replica, such as chat or chat/r0", arg)
			}
		}
		c.names = args
		return nil
	}
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		names := c.knownReplicas()
		return append(names, poolsOf(names)...), cobra.ShellCompDirectiveNoFileComp
	}
}

// chooses tells whether replicas are named at all.
func (c *cli) chooses() bool { return len(c.pools) > 0 || c.replica != "" || len(c.names) > 0 }

// chosen tells whether a replica is one of those that the flags and arguments name.
func (c *cli) chosen(pool, replica string) bool {
	return (len(c.pools) == 0 || slices.Contains(c.pools, pool)) && (c.replica == "" || c.replica == replica) &&
		(len(c.names) == 0 || slices.ContainsFunc(c.names, func(name string) bool { return names(name, pool, replica) }))
}

// names tells whether an argument is a replica or its pool.
func names(arg, pool, replica string) bool { return arg == pool || arg == pool+"/"+replica }

// unknown is the error about a name that none of the replicas has, which are written as POOL/REPLICA; nil when there is none.
// Who misspells a name must not believe that all is well.
func (c *cli) unknown(replicas []string) error {
	has := func(match func(pool, replica string) bool) bool {
		return slices.ContainsFunc(replicas, func(name string) bool {
			pool, replica, _ := strings.Cut(name, "/")
			return match(pool, replica)
		})
	}
	there := "no replica is known here"
	if len(replicas) > 0 {
		there = "there are: " + strings.Join(replicas, ", ")
	}
	if err := c.misplaced(); err != nil {
		return err
	}
	wrong := func(what, name string, known []string) error {
		pool, _, _ := strings.Cut(name, "/")
		if near := nearest.Of(name, known); near != "" && !strings.HasPrefix(near, pool+"/") { // of its own pool, all are listed
			return &usageError{err: fmt.Errorf("no %s %q; did you mean %q? %s%s", what, name, near, strings.ToUpper(there[:1]), there[1:])}
		}
		return &usageError{err: fmt.Errorf("no %s %q; %s", what, name, there)}
	}
	for _, id := range c.pools {
		if !has(func(pool, _ string) bool { return pool == id }) {
			return wrong("pool", id, poolsOf(replicas))
		}
	}
	for _, name := range c.names {
		if !has(func(pool, replica string) bool { return names(name, pool, replica) }) {
			return wrong("replica or pool", name, append(poolsOf(replicas), replicas...))
		}
	}
	if !has(c.chosen) && c.replica != "" {
		return wrong("replica", c.replica, nil)
	}
	if !has(c.chosen) && c.chooses() {
		return &usageError{err: fmt.Errorf("no replica is meant by all of these names together; %s", there)}
	}
	return nil
}

// misplaced is the error about a whole name behind a flag that takes a part of one.
func (c *cli) misplaced() error {
	for flag, values := range map[string][]string{"pool": c.pools, "replica": {c.replica}} {
		if i := slices.IndexFunc(values, func(name string) bool { return strings.Contains(name, "/") }); i >= 0 {
			return &usageError{err: fmt.Errorf("--%s %s: that is a whole name; write it without --%s", flag, values[i], flag)}
		}
	}
	return nil
}

// knownReplicas are those of the file, or those that have run.
func (c *cli) knownReplicas() (found []string) {
	file := c.configFile
	if file == "" && thereIsUsualFile() {
		file = usualFile
	}
	if file != "" {
		config, err := c.stdin, error(nil) // completion reads no stdin
		if file != stdin {
			config, err = provisioner.LoadConfig(file)
		}
		if err == nil && config != nil {
			replicas, _ := config.Replicas("") // a wrong file completes nothing
			for _, r := range replicas {
				found = append(found, r.Name())
			}
		}
		return found
	}
	known, _ := fleet.Statuses(c.stateDir, withContainers()...)
	for _, s := range known {
		found = append(found, s.Pool+"/"+s.Replica)
	}
	return found
}

// poolsOf are the pools of replicas, each once.
func poolsOf(replicas []string) (pools []string) {
	for _, name := range replicas {
		pool, _, _ := strings.Cut(name, "/")
		pools = append(pools, pool)
	}
	return slices.Compact(pools)
}

// replicasOf are what --replica can be, each once: of the pools that --pool names, or of all.
func (c *cli) replicasOf(names []string) (replicas []string) {
	for _, name := range names {
		if pool, replica, _ := strings.Cut(name, "/"); len(c.pools) == 0 || slices.Contains(c.pools, pool) {
			replicas = append(replicas, replica)
		}
	}
	slices.SortFunc(replicas, natural.Compare)
	return slices.Compact(replicas)
}
