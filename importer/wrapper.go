package importer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kballard/go-shellquote"
)

// wrapper is a command that runs the command behind it.
type wrapper struct {
	valued   string   // the letters of its short options that take a value
	long     []string // its long options that take one as the next word
	operands int      // how many words of its own stand before the command
	silent   bool     // it changes nothing that matters here
}

// wrappers are those that people put before an engine, by name.
var wrappers = map[string]wrapper{
	"exec":      {valued: "a", silent: true},
	"nohup":     {silent: true},
	"command":   {silent: true},
	"builtin":   {silent: true},
	"time":      {valued: "fo", long: []string{"--format", "--output"}, silent: true},
	"setsid":    {silent: true},
	"tini":      {valued: "pe", silent: true},
	"dumb-init": {valued: "r", long: []string{"--rewrite"}, silent: true},
	"catchsegv": {silent: true},
	"env":       {valued: "uCS", long: []string{"--unset", "--chdir", "--split-string"}},
	"sudo":      {valued: "ugpCDRTUhr", long: []string{"--user", "--group", "--prompt", "--chdir", "--chroot", "--host", "--role", "--type", "--close-from", "--command-timeout", "--other-user"}},
	"doas":      {valued: "uC"},
	"runuser":   {valued: "ugGsw", long: []string{"--user", "--group", "--supp-group", "--shell"}},
	"gosu":      {operands: 1},
	"su-exec":   {operands: 1},
	"setpriv":   {long: []string{"--reuid", "--regid", "--groups", "--inh-caps", "--ambient-caps", "--bounding-set", "--securebits", "--pdeathsig"}},
	"nice":      {valued: "n", long: []string{"--adjustment"}},
	"ionice":    {valued: "cnpPu", long: []string{"--class", "--classdata", "--pid"}},
	"chrt":      {valued: "pTPD", operands: 1},
	"taskset":   {operands: 1},
	"numactl": {valued: "NmiCpw", long: []string{
		"--cpunodebind", "--membind", "--interleave", "--physcpubind", "--preferred", "--preferred-many", "--weighted-interleave", "--localalloc",
	}},
	"timeout":         {valued: "ks", long: []string{"--kill-after", "--signal"}, operands: 1},
	"stdbuf":          {valued: "ioe", long: []string{"--input", "--output", "--error"}},
	"unbuffer":        {},
	"prlimit":         {},
	"cgexec":          {valued: "g"},
	"systemd-run":     {valued: "pEutMHG", long: []string{"--unit", "--property", "--setenv", "--description", "--slice", "--uid", "--gid", "--nice", "--working-directory"}},
	"systemd-inhibit": {long: []string{"--what", "--who", "--why", "--mode"}},
	"conda":           {operands: 1, valued: "np", long: []string{"--name", "--prefix", "--cwd"}},
	"mamba":           {operands: 1, valued: "np", long: []string{"--name", "--prefix", "--cwd"}},
	"micromamba":      {operands: 1, valued: "np", long: []string{"--name", "--prefix", "--cwd"}},
	"poetry":          {operands: 1},
	"pixi":            {operands: 1, valued: "e", long: []string{"--environment", "--manifest-path"}},
	"uv":              {operands: 1, valued: "p", long: []string{"--with", "--python", "--project", "--directory", "--extra", "--group", "--env-file"}},
	"uvx":             {valued: "p", long: []string{"--from", "--with", "--python"}},
	"mangohud":        {}, "gamemoderun": {}, "prime-run": {}, "strace": {valued: "eopsSuEPIXO"},
}

// take takes a wrapper from the front of a command, and says what it changed.
func (w wrapper) take(c *command, name string) error {
	args := c.args[1:]
	own := []string{name}
	left := w.operands
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" {
			args = args[1:]
			if left == 0 {
				break
			}
			continue
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			if name == "env" || name == "sudo" || name == "doas" || name == "systemd-run" {
				if m := assignment.FindStringSubmatch(arg); m != nil {
					c.setEnv(m[1], m[2])
					args = args[1:]
					continue
				}
			}
			if left == 0 {
				break
			}
			left--
			own, args = append(own, arg), args[1:]
			continue
		}
		args = args[1:]
		option, value := arg, ""
		if w.takesNext(arg) && len(args) > 0 {
			value, args = args[0], args[1:]
			option += " " + value
		}
		if done, err := envOption(c, name, arg, value, &args); err != nil {
			return err
		} else if done {
			continue
		}
		own = append(own, option)
	}
	if !w.silent && len(own) > 1 {
		c.note("left out: %s: what it changes holds for all engines when it stands before the provisioner itself", show(strings.Join(own, " ")))
	} else if !w.silent && !slices.Contains([]string{"env", "sudo", "doas"}, name) {
		c.note("left out: %s", name)
	} else if name == "sudo" || name == "doas" {
		c.note("left out: %s: engines run as the user that runs the provisioner", name)
	}
	c.args = args
	return nil
}

// takesNext reports whether the word behind an option is its value.
func (w wrapper) takesNext(option string) bool {
	if strings.HasPrefix(option, "--") {
		return slices.Contains(w.long, option)
	}
	i := strings.IndexAny(option[1:], w.valued)
	return w.valued != "" && i >= 0 && i == len(option)-2
}

// envOption takes the options of "env" and its like that say something about variables and folders.
func envOption(c *command, name, option, value string, rest *[]string) (bool, error) {
	flag, joined, _ := strings.Cut(option, "=")
	if value == "" {
		value = joined
	}
	switch {
	case name == "systemd-run" && (option == "-E" || flag == "--setenv"):
		if m := assignment.FindStringSubmatch(value); m != nil {
			c.setEnv(m[1], m[2])
			return true, nil
		}
		return false, nil
	case name != "env":
		return false, nil
	case option == "-i" || option == "--ignore-environment" || option == "-":
		c.env = nil // the engine's environment is its own here, too
		return true, nil
	case option == "-u" || flag == "--unset":
		delete(c.env, value)
		c.note("left out: env -u %s: an engine gets a short list of the provisioner's variables alone; see \"env\" in plan", show(value))
		return true, nil
	case option == "-C" || flag == "--chdir":
		c.dir = value
		return true, nil
	case option == "-S" || flag == "--split-string":
		words, err := shellquote.Split(value)
		if err != nil {
			return false, fmt.Errorf("cannot split what stands behind env -S: %w", err)
		}
		*rest = append(words, *rest...)
		return true, nil
	}
	return false, nil
}
