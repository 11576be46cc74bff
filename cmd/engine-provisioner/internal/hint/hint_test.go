package hint

import (
	"io"
	"testing"

	"github.com/spf13/cobra"
)

// tree is a command with others.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "tool", SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return nil }}
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return Command(cmd, args, []string{"chat/r0"})
	}
	status := &cobra.Command{Use: "status", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return nil }}
	status.Flags().Bool("check", false, "")
	status.Flags().Float64("rate", 0, "")
	status.Flags().Int("lines", 0, "")
	cache := &cobra.Command{Use: "cache"}
	cache.AddCommand(&cobra.Command{Use: "list", RunE: func(*cobra.Command, []string) error { return nil }})
	root.AddCommand(status, cache)
	root.SetFlagErrorFunc(Flag)
	Groups(root)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	return root
}

func TestHints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string // "" for no error
	}{
		{[]string{"status"}, ""},
		{[]string{"cache", "list"}, ""},
		{[]string{"stauts"}, `unknown command "stauts"; did you mean "status"?`},
		{[]string{"ps"}, `unknown command "ps"; "engine-provisioner status" shows the replicas`},
		{[]string{"chat"}, `unknown command "chat"; "engine-provisioner start chat" starts that, and --pool runs it in the foreground`},
		{[]string{"chat/r0"}, `unknown command "chat/r0"; "engine-provisioner start chat/r0" starts that, and --pool runs it in the foreground`},
		{[]string{"hint.go"}, `unknown command "hint.go"; did you mean --config hint.go?`},
		{[]string{"xyz"}, `unknown command "xyz"`},
		{[]string{"cache"}, `"tool cache" needs another word: list`},
		{[]string{"cache", "lsit"}, `unknown command "lsit"; did you mean "cache list"?`},
		{[]string{"cache", "xyz"}, `unknown command "xyz"; there is: list`},
		{[]string{"status", "--json"}, `unknown flag: --json; here that is --output json`},
		{[]string{"status", "--chekc"}, `unknown flag: --chekc; did you mean --check?`},
		{[]string{"status", "--xyz"}, `unknown flag: --xyz`},
		{[]string{"--xyz"}, `unknown flag: --xyz; those of an engine stand in the pools file, under "flags"`},
		{[]string{"status", "--rate", "hot"}, `invalid argument "hot" for "--rate" flag: write a number, such as 0.7`},
		{[]string{"status", "--lines", "all"}, `invalid argument "all" for "--lines" flag: write a whole number`},
		{[]string{"status", "--check=maybe"}, `invalid argument "maybe" for "--check" flag: write true or false`},
	} {
		root := tree()
		root.SetArgs(c.args)
		got := ""
		if err := root.Execute(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}
