package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
)

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
