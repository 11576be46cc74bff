// Package help writes the help of a command, as wide as the terminal of who reads it.
//
// The command installs it once. It decides nothing about what a command is or does: all texts are those of cobra's commands.
package help

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Limits of the width. Outside of a terminal it is usual: what is written there is read in one later.
const (
	usual = 80
	least = 40
	most  = 120
)

// Install has root and its commands write their help by this package. width tells how wide the terminal is, 0 for none.
func Install(root *cobra.Command, width func() int) {
	columns := func() int {
		w := width()
		if w <= 0 {
			w = usual
		}
		return min(max(w, least), most)
	}
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		w := columns()
		text := cmd.Long
		if text == "" {
			text = cmd.Short
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n", Wrap(text, w))
		usage(cmd.OutOrStdout(), cmd, w)
	})
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		usage(cmd.OutOrStderr(), cmd, columns())
		return nil
	})
}

func usage(w io.Writer, cmd *cobra.Command, width int) {
	fmt.Fprintln(w, "Usage:")
	if cmd.Runnable() {
		fmt.Fprintln(w, "  "+cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s [command]\n", cmd.CommandPath())
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintln(w, "\nAvailable Commands:")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				name := fmt.Sprintf("  %-*s ", sub.NamePadding(), sub.Name())
				fmt.Fprintln(w, name+strings.ReplaceAll(Wrap(sub.Short, width-len(name)), "\n", "\n"+strings.Repeat(" ", len(name))))
			}
		}
	}
	if cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", cmd.LocalFlags().FlagUsagesWrapped(width))
	}
	if cmd.HasAvailableInheritedFlags() {
		fmt.Fprintf(w, "\nGlobal Flags:\n%s", cmd.InheritedFlags().FlagUsagesWrapped(width))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintln(w, "\n"+Wrap(fmt.Sprintf("Use \"%s [command] --help\" for more information about a command.", cmd.CommandPath()), width))
	}
}

// Wrap breaks the lines of a text anew, so that none is wider than width columns, unless a word is. Empty lines part paragraphs,
// and lines that begin with a space stay as they are.
func Wrap(text string, width int) string {
	var out []string
	line := ""
	end := func() {
		if line != "" {
			out = append(out, line)
		}
		line = ""
	}
	for old := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if old == "" || old[0] == ' ' {
			end()
			out = append(out, old)
			continue
		}
		for word := range strings.FieldsSeq(old) {
			if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
				end()
			}
			if line != "" {
				line += " "
			}
			line += word
		}
	}
	end()
	return strings.Join(out, "\n")
}
