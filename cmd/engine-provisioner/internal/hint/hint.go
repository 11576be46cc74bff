// Package hint says of a command line that is wrong what was probably meant: the nearest word, the word that is used here for what
// other tools call otherwise, and what may stand in a place.
//
// The command calls it for its errors. It runs nothing, and knows of files and replicas only what it is told, and whether a file
// is there.
package hint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// commands are words that other tools have for what is spelt differently here.
var commands = map[string]string{
	"up":      `"engine-provisioner --config FILE" starts what the file names, and --detach leaves it running`,
	"serve":   `"engine-provisioner run MODEL" starts one model, "engine-provisioner --config FILE" what a file names`,
	"ps":      `"engine-provisioner status" shows the replicas`,
	"list":    `"engine-provisioner status" shows the replicas`,
	"ls":      `"engine-provisioner status" shows the replicas`,
	"down":    `"engine-provisioner stop --config FILE" stops what the file names, "stop --all" all of the state directory`,
	"rm":      `"engine-provisioner stop POOL/REPLICA" stops one and leaves nothing behind but its logs`,
	"kill":    `"engine-provisioner stop --grace 0 POOL/REPLICA" kills at once`,
	"pull":    `"engine-provisioner prepare --config FILE" brings what is missing`,
	"chat":    `"engine-provisioner ask QUESTION" asks a ready replica`,
	"exec":    `"engine-provisioner ask QUESTION" asks a ready replica`,
	"check":   `"engine-provisioner validate" checks a file, and "doctor" this host, too`,
	"config":  `"engine-provisioner validate" checks a file, and "plan" shows what comes of it`,
	"pause":   `"engine-provisioner hold POOL/REPLICA --reason TEXT" stops replicas and keeps them stopped`,
	"resume":  `"engine-provisioner unhold POOL/REPLICA" ends a hold`,
	"inspect": `"engine-provisioner status --output json" tells all of a replica, "plan" what would be run`,

	"get":           `"engine-provisioner status" shows the replicas`,
	"describe":      `"engine-provisioner status --output json" tells all of a replica, "events" what became of it`,
	"show":          `"engine-provisioner plan" shows what would be run, "status" what is`,
	"stats":         `"engine-provisioner top" shows live what the replicas take and do`,
	"attach":        `"engine-provisioner logs -f POOL/REPLICA" shows what an engine writes`,
	"journalctl":    `"engine-provisioner logs" shows what engines write, "events" what became of them`,
	"tail":          `"engine-provisioner logs -f" shows what engines write`,
	"apply":         `"engine-provisioner reload" makes the manager use the changed file; "engine-provisioner --config FILE" is one`,
	"deploy":        `"engine-provisioner --config FILE" starts what the file names`,
	"daemon-reload": `"engine-provisioner reload" makes the manager use the changed file`,
	"scale":         `the key "replicas" of a pool says how many, and "engine-provisioner reload" makes the manager use the changed file`,
	"rollout":       `"engine-provisioner restart POOL" replaces the engines of a pool`,
	"delete":        `"engine-provisioner stop POOL/REPLICA" stops one and leaves nothing behind but its logs`,
	"remove":        `"engine-provisioner stop POOL/REPLICA" stops one and leaves nothing behind but its logs`,
	"is-active":     `"engine-provisioner status --check POOL/REPLICA" ends with 0 only when that is ready`,
	"health":        `"engine-provisioner status --check POOL/REPLICA" ends with 0 only when that is ready`,
	"enable":        `"engine-provisioner render systemd" prints a unit, which systemctl enables`,
	"disable":       `"engine-provisioner hold POOL/REPLICA --reason TEXT" stops replicas and keeps them stopped`,
	"images":        `"engine-provisioner cache list" shows what was downloaded, built or installed`,

	"cache clean":  `"engine-provisioner cache prune" removes what is not used`,
	"cache clear":  `"engine-provisioner cache prune" removes what is not used`,
	"cache rm":     `"engine-provisioner cache prune" removes what is not used`,
	"cache delete": `"engine-provisioner cache prune" removes what is not used`,
	"cache ls":     `"engine-provisioner cache list" shows what is there`,
}

// Command is the error of arguments that begin with no command of root. replicas are those that are known, as POOL/REPLICA.
func Command(root *cobra.Command, args, replicas []string) error {
	word := args[0]
	if slices.ContainsFunc(replicas, func(name string) bool { return name == word || strings.HasPrefix(name, word+"/") }) {
		return fmt.Errorf("unknown command %q; \"engine-provisioner start %s\" starts that, and --pool runs it in the foreground", word, word)
	}
	if hint := commands[word]; hint != "" {
		return fmt.Errorf("unknown command %q; %s", word, hint)
	}
	if name := nearest.Of(word, names(root)); name != "" {
		return fmt.Errorf("unknown command %q; did you mean %q?", word, name)
	}
	if isFile(word) {
		return fmt.Errorf("unknown command %q; did you mean --config %s?", word, word)
	}
	return fmt.Errorf("unknown command %q", word)
}

func names(cmd *cobra.Command) (known []string) {
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			known = append(known, sub.Name())
		}
	}
	return known
}

// Argument is the error of an argument of a command that has none.
func Argument(cmd *cobra.Command, arg string) error {
	if isFile(arg) && cmd.Flags().Lookup("config") != nil {
		return fmt.Errorf("unexpected argument %q; did you mean --config %s?", arg, arg)
	}
	if cmd.Name() == "reload" {
		return fmt.Errorf("unexpected argument %q: the whole file is read again, and what is unchanged goes on; \"engine-provisioner restart %s\" replaces one", arg, arg)
	}
	return fmt.Errorf("unexpected argument %q", arg)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// Groups has the commands that only hold others refuse a word that is none of them: they would print their help, and say that all
// is well.
func Groups(root *cobra.Command) {
	for _, group := range root.Commands() {
		if !group.HasSubCommands() {
			continue
		}
		group.RunE = func(*cobra.Command, []string) error { return nil } // only what can run has its arguments checked
		group.Args = func(cmd *cobra.Command, args []string) error {
			known := names(cmd)
			if len(args) == 0 {
				return fmt.Errorf("%q needs another word: %s", cmd.CommandPath(), strings.Join(known, ", "))
			}
			if hint := commands[cmd.Name()+" "+args[0]]; hint != "" {
				return fmt.Errorf("unknown command %q; %s", args[0], hint)
			}
			if near := nearest.Of(args[0], known); near != "" {
				return fmt.Errorf("unknown command %q; did you mean %q?", args[0], cmd.Name()+" "+near)
			}
			return fmt.Errorf("unknown command %q; there is: %s", args[0], strings.Join(known, ", "))
		}
	}
}

// flags are those that other tools have for what is spelt differently here, of all commands or of one.
var flags = map[string]string{
	"json": "--output json", "format": "--output json", "d": "--detach", "daemon": "--detach", "background": "--detach",
	"file": "--config FILE", "f": "--config FILE", "v": "--version", "V": "--version", "force": "--grace 0",
	"quiet": "no flag: results are on stdout, progress is on stderr",
	"all":   "no flag: without names, all are meant", "a": "no flag: without names, all are meant",
	"name": "no flag: names are arguments", "id": "no flag: names are arguments",

	"ask model": "no flag: a pool or a replica stands before the question", "ask m": "no flag: a pool or a replica stands before the question",
	"plan dry-run": "no flag: nothing is started", "wait for": "no flag: it waits until replicas are ready",
}

// keys of a pool are what other tools have flags for.
var keys = map[string]string{
	"port": "port", "p": "port", "host": "host", "model": "model", "m": "model", "engine": "engine", "replicas": "replicas",
	"gpus": "devices", "device": "devices", "devices": "devices", "gpu": "gpu", "env": "env", "e": "env", "api-key": "api_key",
	"restart": "restart", "image": "provisioning.container.image", "volume": "provisioning.container.volumes",
}

// spelt is what a flag is here, of what this command has; "" where that is not known.
func spelt(cmd *cobra.Command, word string) string {
	if here := flags[cmd.Name()+" "+word]; here != "" {
		return here
	}
	here := flags[word]
	name, isFlag := strings.CutPrefix(here, "--")
	if name, _, _ = strings.Cut(name, " "); isFlag && cmd.Flags().Lookup(name) == nil {
		return ""
	}
	return here
}

// Flag is the error of a flag, with what was probably meant, or with what can be its value.
func Flag(cmd *cobra.Command, err error) error {
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return value(wrong)
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	word := unknown.GetSpecifiedName()
	if words := cmd.Flags().Args(); len(words) > 0 && !cmd.HasParent() { // the flag of a command that there is not
		return Command(cmd, words, nil)
	}
	if here := spelt(cmd, word); here != "" {
		return fmt.Errorf("%w; here that is %s", err, here)
	}
	if key := keys[word]; key != "" && !cmd.HasParent() {
		return fmt.Errorf("%w; that is the key %q of a pool in the pools file", err, key)
	}
	if name := nearest.Of(word, known); name != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, name)
	}
	if !cmd.HasParent() {
		return fmt.Errorf("%w; those of an engine stand in the pools file, under \"flags\"", err)
	}
	return err
}

// value says what a flag can be whose value is no number, where Go's own words would.
func value(wrong *pflag.InvalidValueError) error {
	if _, ok := errors.AsType[*strconv.NumError](wrong); !ok {
		return wrong
	}
	want := map[string]string{"float64": "a number, such as 0.7", "bool": "true or false"}[wrong.GetFlag().Value.Type()]
	if want == "" {
		want = "a whole number"
	}
	return fmt.Errorf("invalid argument %q for \"--%s\" flag: write %s", wrong.GetValue(), wrong.GetFlag().Name, want)
}
