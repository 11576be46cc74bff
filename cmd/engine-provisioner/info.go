package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/node"
)

func (c *cli) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this host can run engines",
		Long: `Check whether this host can run engines: executables, GPUs, the state directory, the kernel. Each line begins
with "ok", "warning" or "problem"; below the last two stands what to do. The exit status is 1 if there is a problem.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			stateDir, err := c.state()
			if err != nil {
				return err
			}
			problems := 0
			for _, check := range node.Diagnose(cmd.Context(), stateDir) {
				if check.Level == node.CheckProblem {
					problems++
				}
				c.showCheck(check)
			}
			c.checkConfig()
			if err := interruption(cmd.Context()); err != nil {
				return err
			}
			if problems > 0 {
				return &toldError{fmt.Errorf("%s found", count(problems, "problem"))}
			}
			return nil
		},
	}
	cmd.Flags().VarP((*onceValue)(&c.configFile), "config", "c", `the pools file, for its "state_dir" (default: pools.yaml, if it is here)`)
	cmd.Flags().StringVar(&c.stateDir, "state-dir", "", `the directory of records, logs and handoffs (default: "state_dir" of the file, or .runtime)`)
	return cmd
}

// checkConfig warns of what the configuration may suffer from on this host. What is wrong with it, "validate" tells.
func (c *cli) checkConfig() {
	if c.configFile == "" {
		return
	}
	config, err := provisioner.LoadConfig(c.configFile)
	if err != nil {
		return
	}
	for _, w := range config.Warnings() {
		c.showCheck(node.Check{Name: "configuration", Level: node.CheckWarning, Detail: warningText(c.configFile, w)})
	}
}

func (c *cli) showCheck(check node.Check) {
	if c.output.json {
		_ = writeJSON(c.std.out, check) // where stdout is gone there is nobody to tell
		return
	}
	fmt.Fprintf(c.std.out, "%-8s %s: %s\n", check.Level, check.Name, check.Detail)
	if check.Fix != "" {
		fmt.Fprintf(c.std.out, "         -> %s\n", strings.ReplaceAll(check.Fix, "\n", "\n            "))
	}
}

func (c *cli) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a pools file, for editors",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			schema, err := provisioner.ConfigSchema()
			if err != nil {
				return err
			}
			_, err = c.std.out.Write(schema)
			return err
		},
	}
}

// version is which program this is, as --output json tells it.
type version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Static   bool   `json:"static,omitempty"` // it needs no library, and cannot use NVIDIA's
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			v := thisVersion()
			if c.output.json {
				return writeJSON(c.std.out, v)
			}
			_, err := fmt.Fprintln(c.std.out, v)
			return err
		},
	}
}

func (v version) String() string {
	build := ""
	if v.Static {
		build = ", static: without NVIDIA's library"
	}
	return fmt.Sprintf("engine-provisioner %s (%s, %s%s)", v.Version, v.Go, v.Platform, build)
}

func thisVersion() version {
	info, _ := debug.ReadBuildInfo() // none without modules
	return versionOf(info)
}

// versionOf is what was written into a program when it was built.
func versionOf(info *debug.BuildInfo) version {
	v := version{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "-tags":
			v.Static = slices.Contains(strings.Split(s.Value, ","), "static")
		}
	}
	return v
}
