package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/plantext"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/report"
)

// planDiff is by what the last launch of a replica differs from what would be run.
type planDiff struct {
	Pool    string              `json:"pool"`
	Replica string              `json:"replica"`
	Running bool                `json:"running"`
	Differs []report.Difference `json:"differs"` // null when it has never run
}

func (c *cli) showDiff(ctx context.Context, config provisioner.ProvisionConfig) error {
	d := planDiff{Pool: config.PoolID, Replica: config.ReplicaID}
	all, err := fleet.Statuses(config.StateDir, withContainers()...)
	at := slices.IndexFunc(all, func(s provisioner.Status) bool { return s.Pool == d.Pool && s.Replica == d.Replica })
	if at >= 0 {
		d.Running = all[at].PID != 0
	} else if err != nil {
		return err
	}
	d.Differs, err = node.Differences(ctx, config, withContainers()...)
	never := errors.Is(err, provisioner.ErrNotFound)
	if err != nil && !never {
		return err
	}
	if d.Differs == nil && !never {
		d.Differs = []report.Difference{}
	}
	if c.output.json {
		return writeJSON(c.std.out, d)
	}
	fmt.Fprintf(c.std.out, "%s: %s\n", config.Name(), d.summary(never))
	w := tabwriter.NewWriter(c.std.out, 0, 0, 2, ' ', 0)
	for _, difference := range d.Differs {
		fmt.Fprintf(w, "  %s\t%s\n", orDash(difference.Key), plantext.Change(difference))
	}
	return w.Flush()
}

func (d planDiff) summary(never bool) string {
	switch {
	case never:
		return "has never run"
	case d.Running && len(d.Differs) == 0:
		return "runs as the file says"
	case d.Running:
		return "differs from the engine that runs:"
	case len(d.Differs) == 0:
		return "does not run; its last launch was as the file says"
	}
	return "does not run; it differs from its last launch:"
}
