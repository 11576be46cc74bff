package shell

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{ // the words of each command, with "|" between them
		"":                                         nil,
		"a 'b c' \"d\\\"e\" f\\ g \\\n h":          {`a|b c|d"e|f g|h`},
		"a; b && c || d | e & (f; { g; })":         {"a", "b", "c", "d", "e", "f", "g"},
		"X=1 Y='2 3'; a $X \"$X\" $Y \"$Y\"":       {"a|1|1|2|3|2 3"},
		"X=1; X+=2; a $X ${X}3":                    {"a|12|123"},
		"a ${X:-d} ${X-d} ${X:=d} \"${X:-}\"":      {"a|d|d|d|"},
		"X=1; a ${X:-d} ${X:?e}":                   {"a|1|1"},
		"L=(a 'b c'); L+=(d); x \"${L[@]}\" y":     {"x|a|b c|d|y"},
		"a $X ${X%y} $(b) `c` $((1+1))":            {"a|$X|${X%y}|$(b)|`c`|$((1+1))"},
		"a $'\\t' \"\\$x\" '$x'":                   {"a|\t|$x|$x"},
		"X=$(b); a $X":                             {"a|$X"},
		"if a; then b; elif c; then d; else e; fi": {"a", "b", "c", "d", "e"},
		"for i in 1 2; do a $i; done; while x; do b; done; case $y in z) c;; esac": {"a|$i", "b", "c"},
		"f() { a \"$@\"; }; f 1":                          {"a", "f|1"},
		"readonly X=1; export Y=2; declare Z=3; a $X$Y$Z": {"a|123"},
		"# comment\na # more\n":                           {"a"},
		"time a; ! b":                                     {"a", "b"},
	} {
		got, err := Read(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var words []string
		for _, c := range got.Commands {
			words = append(words, strings.Join(c.Words, "|"))
		}
		if !slices.Equal(words, want) {
			t.Errorf("%s:\ngot  %q\nwant %q", text, words, want)
		}
	}
}

func TestReadAround(t *testing.T) {
	t.Parallel()
	got, err := Read("export A=1; B=2; C=3 x >log 2>&1; cd /d; cd e; y; if z; then D=4; w; fi")
	if err != nil || len(got.Commands) != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	x, y, w := got.Commands[0], got.Commands[1], got.Commands[3]
	if !maps.Equal(x.Env, map[string]string{"A": "1", "C": "3"}) || len(x.Notes) != 2 || !strings.Contains(x.Notes[0], "left out: the redirection >log") {
		t.Errorf("%+v", x)
	}
	if y.Dir != "/d/e" || !maps.Equal(y.Env, map[string]string{"A": "1"}) {
		t.Errorf("%+v", y)
	}
	if len(w.Notes) != 1 || !strings.Contains(w.Notes[0], `inside an "if"`) || !slices.Equal(got.Maybe, []string{`decide: D=4 stood inside an "if", which may not always run`}) {
		t.Errorf("%+v %q", w, got.Maybe)
	}
	for text, want := range map[string]string{
		"'open":                                         "cannot read it as a shell does",
		strings.Repeat("(", maxBrackets+1):              "nested deeper",
		strings.Repeat("a\n", maxShell):                 "larger than 128 KiB",
		"A=xxxxxxxx\n" + strings.Repeat("A=$A$A\n", 30): "more than 1 MiB",
		"A=(" + strings.Repeat("x ", 1000) + ")\n" + strings.Repeat("A+=(\"${A[@]}\")\n", 30): "more than 1 MiB",
	} {
		if _, err := Read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", text, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("A=1; export B=$A; (cd /x && exec nice -n 5 y \"$A\" ${B:-${A}} \"${C[@]}\" $'\\t' $(x)) 2>&1 &")
	f.Add("000&()0") // functions without a name
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Read(text)
		if err != nil {
			return
		}
		for _, c := range got.Commands {
			if len(c.Words) == 0 {
				t.Errorf("%q has a command without a word", text)
			}
		}
	})
}
