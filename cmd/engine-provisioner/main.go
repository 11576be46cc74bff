// Command engine-provisioner starts, health-checks, hands off, keeps alive and stops the engines of a pools file. It is
// a thin layer over the library: flags in, library calls, exit code out.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/filearg"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/help"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/hint"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/pod"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/runs"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

func main() {
	proc.CloseOnExec()
	pod.BeInit()
	// A panic, or the SIGABRT of systemd's watchdog, shall end this program by that signal. Otherwise Go exits with 2, which
	// says that the configuration is wrong: then no service manager starts it again.
	debug.SetTraceback("crash")
	panicAt(syscall.SIGABRT, syscall.SIGQUIT)
	collectLater()
	os.Exit(run(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// collectLater has a command that is over within a second collect garbage when there are 16 MiB, not 4: it took status and validate a
// fifth of their time. Whoever has set GOGC has it as it is.
func collectLater() {
	const asUsual, forShort = 100, 400
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(forShort)
		time.AfterFunc(time.Second, func() { debug.SetGCPercent(asUsual) })
	}
}

// streams are the standard streams of one run of the command.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is the whole command; it returns the exit status.
func run(ctx context.Context, args []string, std streams) int {
	out := &attentive{w: std.out}
	page, screen := std.out, std.err
	// Whoever has named a file, a repository, a GPU or a process does nothing to the terminal of who reads of it.
	std.out, std.err = tail.Writer(out), tail.Writer(std.err)
	c := &cli{std: std, page: page, screen: screen}
	ctx, c.signals = watchSignals(ctx)
	defer c.signals.stop()

	root := c.rootCommand()
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return c.outcome(out.lost())
	}
	if !c.began {
		err = &usageError{err: err, help: cmd.CommandPath() + " --help"}
	}
	var told *toldError
	if !errors.As(err, &told) {
		c.reportError(err)
	}
	if c.terminationLog != "" {
		if lost := pod.LeaveMessage(c.terminationLog, c.inWords(err.Error()), failureOf(err).LogTail); lost != nil {
			fmt.Fprintf(c.std.err, "note: %v\n", lost)
		}
	}
	return exitCode(err)
}

// outcome is the exit status of a command that has done its work, whose output may be lost.
func (c *cli) outcome(lost error) int {
	if lost == nil || readerGone(lost) {
		return 0
	}
	fmt.Fprintf(c.std.err, "error: the output is lost: %v\n", lost)
	return exitFailed
}

// cli is what all commands share during one run.
type cli struct {
	std     streams
	page    io.Writer // stdout as it is
	screen  io.Writer // stderr as it is, to be drawn on
	signals *signals
	began   bool // the arguments were understood

	configFile string // "-" for stdin
	stdin      *provisioner.Config
	onlyState  bool // the file was not named: it only says where the state directory is
	stateDir   string
	place      runs.Place // what locate has found
	pools      []string
	replica    string
	names      []string // as arguments: POOL or POOL/REPLICA
	output     outputFormat

	terminationLog string              // where a run says why it ended; "": nowhere
	words          func(string) string // puts texts for people in words of this command; nil leaves them
}

const rootLong = `engine-provisioner runs the LLM engines of a pools file: it starts them, proves that they are ready, keeps them alive,
and stops them.

Without a command it checks the file, which is ./pools.yaml unless --config names another one, and the host, adopts the replicas that already run, starts the others, and prints
the URL of each one when it is ready. Until all are ready, the first failure ends the command. Afterwards it stays in the
foreground and restarts engines that die. SIGINT, SIGTERM, or SIGHUP (the terminal was closed) stop the engines; running
requests are finished first. A second signal ends all waiting at once. With --detach the engines continue to run when
they are ready; "status", "logs" and "stop" then work on them. "reload" makes the manager, which is the command that stays, use the changed file.

Exit status: 0 done, 1 failed, 2 usage or configuration, 3 GPU missing or too small, 4 not ready in time, 5 engine
exited, 6 busy (another manager, or the port is taken), 129, 130 or 143 interrupted by SIGHUP, SIGINT or SIGTERM before
everything was ready.`

func (c *cli) rootCommand() *cobra.Command {
	var flags runFlags
	root := &cobra.Command{
		Use:   "engine-provisioner [--config FILE]",
		Short: "Start LLM engines, keep them alive, and stop them",
		Long:  rootLong,
		Example: `  engine-provisioner run chat.gguf
  engine-provisioner init chat.gguf
  engine-provisioner
  engine-provisioner --config pools.yaml --pool chat --detach
  engine-provisioner status
  engine-provisioner ask "What is the capital of France?"
  engine-provisioner logs --pool chat -f
  engine-provisioner stop --config pools.yaml`,
		Version:           thisVersion().String(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args: func(root *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return hint.Command(root, args, c.knownReplicas())
		},
		PersistentPreRun: func(*cobra.Command, []string) { c.began = true },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.needFile(cmd); err != nil {
				return err
			}
			return c.runReplicas(cmd.Context(), flags, c)
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version")
	root.PersistentFlags().VarP(&c.output, "output", "o",
		`output format: "text", or "json" for one JSON object a line on stdout`)
	c.chooseFlags(root)
	flags.add(root, c)
	root.SetFlagErrorFunc(hint.Flag)
	help.Install(root, func() int {
		d := newDisplay(c.page, false)
		if d.size == nil {
			return 0
		}
		width, _, _ := d.size() // 0 where it cannot be told
		return width
	})
	root.AddCommand(c.runCommand(), c.initCommand(), c.startCommand(), c.stopCommand(), c.restartCommand(), c.holdCommand(), c.unholdCommand(), c.resetCommand(), c.reloadCommand(), c.statusCommand(), c.topCommand(), c.waitCommand(), c.askCommand(), c.logsCommand(),
		c.eventsCommand(), c.validateCommand(), c.planCommand(), c.prepareCommand(), c.cacheCommand(), c.doctorCommand(),
		c.installCommand(), c.enginesCommand(), c.importCommand(), c.renderCommand(), c.schemaCommand(), c.versionCommand())
	root.InitDefaultCompletionCmd()
	root.SetHelpCommand(helpCommand())
	hint.Groups(root)
	formats := cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)
	_ = root.RegisterFlagCompletionFunc("output", formats)
	return root
}

// helpCommand is cobra's, but for a word that is no command: that is an error, and no page about something else.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &usageError{err: hint.Command(cmd.Root(), args, nil), help: cmd.Root().CommandPath() + " --help"}
			}
			return of.Help()
		},
	}
}

// placeFlags adds the flags that say where a command looks.
func (c *cli) placeFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.VarP((*filearg.Once)(&c.configFile), "config", "c", "the pools file, or - for stdin (default: pools.yaml, if it is here)")
	f.StringVar(&c.stateDir, "state-dir", "",
		`the directory of records, logs and handoffs (default: "state_dir" of the file, or .runtime)`)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json")
	_ = cmd.MarkFlagDirname("state-dir")
}

// chooseFlags adds the flags that say which replicas a command is about.
func (c *cli) chooseFlags(cmd *cobra.Command) {
	c.placeFlags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&c.pools, "pool", nil, "only this pool; may be repeated")
	f.StringVar(&c.replica, "replica", "", `only this replica of each pool, such as "r0"`)
	pools := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return poolsOf(c.knownReplicas()), cobra.ShellCompDirectiveNoFileComp
	}
	replicas := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return c.replicasOf(c.knownReplicas()), cobra.ShellCompDirectiveNoFileComp
	}
	_ = cmd.RegisterFlagCompletionFunc("pool", pools)
	_ = cmd.RegisterFlagCompletionFunc("replica", replicas)
}

// noArguments refuses arguments of a command that has none.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return hint.Argument(cmd, args[0])
}
