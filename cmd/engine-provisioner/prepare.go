package main

import (
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
)

func (c *cli) prepareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prepare [--config FILE] [POOL[/REPLICA]]...",
		Short: "Build, install and download what is missing, without starting anything",
		Long: `Build, install and download what is missing, without starting anything. A run does this by itself; this command does it
in advance. It also checks whether branches and tags have moved. It can be interrupted and repeated.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.needFile(cmd); err != nil {
				return err
			}
			configs, err := c.load()
			if err != nil {
				return err
			}
			show := c.newReporter()
			errs := make([]error, len(configs))
			var all sync.WaitGroup
			for i, config := range configs {
				all.Go(func() {
					p, err := provisioner.New(config, withContainers(provisioner.WithEventFunc(show.event))...)
					if err == nil {
						var prepared provisioner.Prepared
						if prepared, err = p.Prepare(cmd.Context()); err == nil {
							show.gotReady(config, prepared)
						}
					}
					show.prepared(config.Name())
					errs[i] = about(config.Name(), err)
				})
			}
			all.Wait()
			show.close()
			if err := interruption(cmd.Context()); err != nil {
				return err
			}
			return c.reportAll(errs)
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	return cmd
}

// gotReady tells what a preparation has brought.
func (r *reporter) gotReady(config provisioner.ProvisionConfig, p provisioner.Prepared) {
	r.do(func() {
		if r.output.json {
			_ = writeJSON(r.std.out, map[string]any{
				"event": "prepared", "pool": config.PoolID, "replica": config.ReplicaID, "executable": p.Binary.Path, "engine_version": p.Binary.Version, "model": p.ModelPath,
			})
			return
		}
		fmt.Fprintf(r.std.out, "%s prepared %s\n", config.Name(), p.Binary.Path)
	})
}
