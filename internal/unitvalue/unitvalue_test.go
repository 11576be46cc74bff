package unitvalue

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// By the table in systemd.syntax(7), and by what systemd 252 does with the rest.
func TestWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		``:                         nil,
		`a  b	c`:                   {"a", "b", "c"},
		`"a b" 'c "d"' e"f g"h`:    {"a b", `c "d"`, "ef gh"},
		`"" ''`:                    {"", ""},
		`a\x20b \101 \u00e9 \s \t`: {"a b", "A", "é", " ", "\t"},
		`a\ b \q`:                  {`a\ b`, `\q`},
		`--x="{\"a\": 1}"`:         {`--x={"a": 1}`},
	} {
		if got, err := Words(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`"a`, `'`, `a\`, `\x00`} {
		if got, err := Words(line); err == nil {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90": 90 * time.Second, "5min": 5 * time.Minute, "1min 30s": 90 * time.Second, "1m30s": 90 * time.Second,
		"2h 20min": 140 * time.Minute, "500ms": time.Second / 2, "1.5h": 90 * time.Minute, "1 day": 24 * time.Hour, "0": 0,
	} {
		if got, ok := Duration(text); !ok || got != want {
			t.Errorf("%s: %v, %t", text, got, ok)
		}
	}
	for _, text := range []string{"", " ", "infinity", "-1", "1 fortnight", "s"} {
		if got, ok := Duration(text); ok {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add(`a "b c" 'd\x20e' f\ g \u00e9 \101 "x`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Words(line)
		if err != nil {
			return
		}
		if n := len(strings.Join(words, "")); n > 4*len(line) {
			t.Errorf("%d bytes of %d", n, len(line))
		}
	})
}

func FuzzDuration(f *testing.F) {
	f.Add("1min 30s")
	f.Fuzz(func(t *testing.T, text string) {
		if d, ok := Duration(text); ok && d < 0 {
			t.Errorf("%q: %v", text, d)
		}
	})
}
