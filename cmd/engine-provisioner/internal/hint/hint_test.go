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
	root.PersistentFlags().String("output", "", "")
	root.Flags().String("config", "", "")
	root.Flags().Bool("version", false, "")
	root.Flags().Bool("detach", false, "")
	reload := &cobra.Command{Use: "reload", Args: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return Argument(cmd, args[0])
	}, RunE: func(*cobra.Command, []string) error { return nil }}
	ask := &cobra.Command{Use: "ask", RunE: func(*cobra.Command, []string) error { return nil }}
	status := &cobra.Command{Use: "status", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return nil }}
	status.Flags().Bool("check", false, "")
	status.Flags().Float64("rate", 0, "")
	status.Flags().Int("lines", 0, "")
	cache := &cobra.Command{Use: "cache"}
	cache.AddCommand(&cobra.Command{Use: "list", RunE: func(*cobra.Command, []string) error { return nil }})
	root.AddCommand(status, cache, reload, ask)
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
		{[]string{"status", "-d"}, `unknown shorthand flag: 'd' in -d`},
		{[]string{"status", "-a"}, `unknown shorthand flag: 'a' in -a; here that is no flag: without names, all are meant`},
		{[]string{"ask", "--model", "x"}, `unknown flag: --model; here that is no flag: a pool or a replica stands before the question`},
		{[]string{"reload", "chat"}, `unexpected argument "chat": the whole file is read again, and what is unchanged goes on; "engine-provisioner restart chat" replaces one`},
		{[]string{"-d"}, `unknown shorthand flag: 'd' in -d; here that is --detach`},
		{[]string{"-f", "x"}, `unknown shorthand flag: 'f' in -f; here that is --config FILE`},
		{[]string{"-v"}, `unknown shorthand flag: 'v' in -v; here that is --version`},
		{[]string{"--port", "9000"}, `unknown flag: --port; that is the key "port" of a pool in the pools file`},
		{[]string{"apply", "-f", "x"}, `unknown command "apply"; "engine-provisioner reload" makes the manager use the changed file; "engine-provisioner --config FILE" is one`},
		{[]string{"kill", "-9", "chat"}, `unknown command "kill"; "engine-provisioner stop --grace 0 POOL/REPLICA" kills at once`},
		{[]string{"cache", "clean"}, `unknown command "clean"; "engine-provisioner cache prune" removes what is not used`},
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
