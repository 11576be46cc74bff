package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/llama-orch/engine-provisioner/internal/bytesize"
	"github.com/llama-orch/engine-provisioner/node"
)

func (c *cli) cacheCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "List and remove what was downloaded, built and installed",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.cacheListCommand(), c.cachePruneCommand())
	return cmd
}

func (c *cli) cacheListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List what is in the cache",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			items, err := node.Cache()
			if err != nil {
				return err
			}
			if len(items) == 0 {
				c.say("the cache is empty")
				return nil
			}
			return c.showCache(items)
		},
	}
}

func (c *cli) cachePruneCommand() *cobra.Command {
	unused := 30 * 24 * time.Hour
	var all, shared, dryRun bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what has not been used for some time",
		Long: `Remove models and engines that no start has used for 30 days, or for --unused-for. What is in use stays.
The cache of the Hugging Face hub is shared with other tools; its models are only removed with --shared.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			chosen := func(item node.CacheItem) bool {
				switch {
				case item.Kind == node.CacheHubModel && !shared:
					return false
				case item.Kind == node.CacheFacts, item.Kind == node.CacheOther:
					return all
				}
				return all || time.Since(item.UsedAt) >= unused
			}
			if dryRun {
				return c.showChosen(chosen)
			}
			removed, err := node.PruneCache(chosen)
			if len(removed) > 0 {
				if failed := c.showCache(removed); err == nil {
					err = failed
				}
			}
			c.say("removed " + countItems(removed))
			return err
		},
	}
	f := cmd.Flags()
	f.Var((*durationValue)(&unused), "unused-for", "remove what no start has used for this long")
	f.BoolVar(&all, "all", false, "also remove what was used recently, and everything else in the folder")
	f.BoolVar(&shared, "shared", false, "also remove models of the Hugging Face hub that this program downloaded")
	f.BoolVar(&dryRun, "dry-run", false, "only print what would be removed")
	return cmd
}

// showChosen tells what would be removed.
func (c *cli) showChosen(chosen func(node.CacheItem) bool) error {
	items, err := node.Cache()
	if err != nil {
		return err
	}
	var would []node.CacheItem
	for _, item := range items {
		if !item.InUse && chosen(item) {
			would = append(would, item)
		}
	}
	if len(would) > 0 {
		err = c.showCache(would)
	}
	c.say("would remove " + countItems(would))
	return err
}

// countItems tells how many there are, and their size together.
func countItems(all []node.CacheItem) string {
	var sum int64
	for _, item := range all {
		sum += item.Bytes
	}
	switch len(all) {
	case 0:
		return "nothing"
	case 1:
		return "1 item, " + bytesize.Decimal(sum)
	}
	return fmt.Sprintf("%d items, %s", len(all), bytesize.Decimal(sum))
}

func (c *cli) showCache(items []node.CacheItem) error {
	if c.output.json {
		for _, item := range items {
			if err := writeJSON(c.std.out, item); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(c.std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tSIZE\tUSED\tNAME\tNOTE")
	for _, item := range items {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", item.Kind, bytesize.Decimal(item.Bytes), item.UsedAt.Local().Format(time.DateOnly), item.Name, cacheNote(item))
	}
	return w.Flush()
}

// cacheNote is what is special about an item.
func cacheNote(item node.CacheItem) string {
	switch {
	case item.InUse:
		return "in use"
	case item.Partial:
		return "not complete"
	case item.Kind == node.CacheHubModel:
		return "shared with other tools"
	}
	return ""
}
