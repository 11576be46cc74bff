package help

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"one two three", 9, "one two\nthree"},
		{"one two\nthree", 20, "one two three"},
		{"one\n\ntwo", 20, "one\n\ntwo"},
		{"one:\n  two  three\nfour five", 8, "one:\n  two  three\nfour\nfive"},
		{"extraordinary word", 5, "extraordinary\nword"},
		{"größe größe", 11, "größe größe"},
		{"", 10, ""},
	} {
		if got := Wrap(c.text, c.width); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

// Every text of the help fits, whatever the width; names of commands and examples are not broken.
func TestHelpFits(t *testing.T) {
	t.Parallel()
	for _, width := range []int{0, 10, 40, 57, 200} {
		root := &cobra.Command{Use: "root", Short: "Short", Long: strings.Repeat("word ", 100), Example: "  root sub"}
		sub := &cobra.Command{Use: "sub [NAME]...", Short: strings.Repeat("much ", 30), Run: func(*cobra.Command, []string) {}}
		root.PersistentFlags().String("output", "", strings.Repeat("flag ", 50))
		root.AddCommand(sub)
		Install(root, func() int { return width })
		for _, args := range [][]string{{"--help"}, {"sub", "--help"}, {"help", "sub"}} {
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetArgs(args)
			if err := root.Execute(); err != nil {
				t.Fatal(err)
			}
			limit := min(max(width, least), most)
			if width == 0 {
				limit = usual
			}
			for line := range strings.Lines(out.String()) {
				if len(line)-1 > limit {
					t.Errorf("width %d, %q: %q", width, args, line)
				}
			}
			for _, want := range []string{"Usage:", "--output", "word word"} {
				if !strings.Contains(out.String(), want) && (want != "word word" || len(args) == 1) {
					t.Errorf("%q lacks %q:\n%s", args, want, out.String())
				}
			}
		}
	}
}
