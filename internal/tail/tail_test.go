package tail

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestClean(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"plain":                  {"error: no such model", "error: no such model"},
		"tab and end":            {"a\tb \t\r\n", "a\tb"},
		"colour":                 {"\x1b[1;31merror:\x1b[0m no", "error: no"},
		"CSI of one rune":        {"\u009b31mred\u009b0m", "red"},
		"CSI with no end":        {"x\x1b[31", "x"},
		"title":                  {"\x1b]0;owned\x07text", "text"},
		"title ended by ST":      {"\x1b]0;owned\x1b\\text", "text"},
		"title with no end":      {"text\x1b]0;owned", "text"},
		"hyperlink":              {"\x1b]8;;http://a\x1b\\b\x1b]8;;\x1b\\c", "bc"},
		"character set":          {"\x1b(Bnormal", "normal"},
		"save cursor":            {"\x1b7x\x1b8", "x"},
		"two ESC":                {"\x1b\x1b[31mx", "x"},
		"ESC at the end":         {"x\x1b", "x"},
		"ESC before other text":  {"\x1bäx", "äx"},
		"C1 and DEL":             {"a\u0085b\u0080c\x7fd", "abcd"},
		"C0":                     {"a\x00b\x07c\bd", "abcd"},
		"invalid UTF-8":          {"a\xffb\xc3", "a\ufffdb\ufffd"},
		"raw byte of CSI":        {"\x9b31m", "\ufffd31m"},
		"bidirectional override": {"a\u202eb\u2066c\u200fd\u061ce", "abcde"},
		"line separators":        {"a\u2028b\u2029c", "abc"},
		"other scripts":          {"größe 模型 🦙", "größe 模型 🦙"},
	} {
		if got := Clean(c.in); got != c.want {
			t.Errorf("%s: Clean(%q) = %q, want %q", name, c.in, got, c.want)
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	if got := Cut(strings.Repeat("x", maxLine)); len(got) != maxLine || strings.Contains(got, "…") {
		t.Errorf("a line that fits was cut: %q", got)
	}
	got := Cut("beginning " + strings.Repeat("ä", maxLine) + ": reason")
	if len(got) > maxLine || len(got) < maxLine-utf8.UTFMax || !utf8.ValidString(got) {
		t.Errorf("%d bytes, valid: %v", len(got), utf8.ValidString(got))
	}
	if !strings.HasPrefix(got, "…ä") || !strings.HasSuffix(got, "ä: reason") {
		t.Errorf("not the end of the line: %q", got)
	}
}

func TestLast(t *testing.T) {
	t.Parallel()
	if got := Last(nil); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
	var many []string
	for i := range 100 {
		many = append(many, string(rune('a'+i%26)))
	}
	if got := Last(many); !slices.Equal(got, many[len(many)-maxLines:]) {
		t.Errorf("not the last %d lines: %q", maxLines, got)
	}
	long := []string{"first", strings.Repeat("x", 1<<20), "last"}
	if got := Last(long); len(got) != 3 || len(got[1]) > maxLine || got[2] != "last" {
		t.Errorf("around a long line: %d lines", len(got))
	}
	got := Last(slices.Repeat([]string{strings.Repeat("x", 1<<10)}, maxLines))
	if size := len(strings.Join(got, "")); len(got) != maxTotal/maxLine || size > maxTotal {
		t.Errorf("%d lines of %d bytes in all", len(got), size)
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	filler := strings.Repeat("x", window)
	exact := "first\n" + strings.Repeat("y", window-len("second\n")-1) + "\nsecond\n"
	for name, c := range map[string]struct {
		content string
		want    []string
	}{
		"empty":             {"", nil},
		"blank":             {"\n \n\x1b[0m\n", nil},
		"without newline":   {"a\nb", []string{"a", "b"}},
		"cut first line":    {filler + "end of the first\nsecond\n", []string{"second"}},
		"begins at a line":  {exact, []string{strings.Repeat("y", window-len("second\n")-1), "second"}},
		"one line of 1 MiB": {strings.Repeat("z", 1<<20-3) + "end\n", []string{strings.Repeat("z", window-3) + "end"}},
	} {
		got := Lines(write(t, c.content))
		if name == "one line of 1 MiB" { // how much of its beginning is there does not matter
			if len(got) != 1 || len(got[0]) > window || !strings.HasSuffix(got[0], "zend") {
				t.Errorf("%s: %d lines", name, len(got))
			}
			continue
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %.200q, want %.200q", name, got, c.want)
		}
	}
	if got := Lines(filepath.Join(t.TempDir(), "none")); got != nil {
		t.Errorf("of no file: %q", got)
	}
}

func TestAll(t *testing.T) {
	t.Parallel()
	filler := strings.Repeat("some line of the log\n", window/10)
	got := All(write(t, "\x1b[1mfirst\x1b[0m\n"+filler+"last"))
	if len(got) != window/10+2 || got[0] != "first" || got[len(got)-1] != "last" {
		t.Errorf("%d lines", len(got))
	}
	if got := All(filepath.Join(t.TempDir(), "none")); got != nil {
		t.Errorf("of no file: %q", got)
	}
}

// FuzzTail holds that nothing an engine writes can reach a terminal or a JSON document unsafe, or grow an error.
func FuzzTail(f *testing.F) {
	for _, seed := range []string{
		"", "plain\nlines\n", "\x1b[1;31merror\x1b[0m\r\n", "\x1b]0;title\x07x", "\x1b]8;;http://a\x1b\\b", "\u009b31mred", "\x1b(B\x1b",
		"\xff\xfe\x9b\xc3", "a\u202eb\u2066c\u2028d", "\x1b\x1b[", strings.Repeat("ä", 700), strings.Repeat("line\n", 40),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := write(t, string(data))
		lines := Lines(path)
		if all := All(path); len(data) < window && !slices.Equal(all, lines) {
			t.Errorf("of a short file, All is %q and Lines is %q", all, lines)
		}
		for _, line := range lines {
			if !utf8.ValidString(line) || line == "" || Clean(line) != line {
				t.Errorf("%q is not clean", line)
			}
			for _, r := range line {
				if unicode.IsControl(r) && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
					t.Errorf("%q holds %U", line, r)
				}
			}
		}
		total := 0
		last := Last(lines)
		for _, line := range last {
			total += len(line)
			if len(line) > maxLine || !utf8.ValidString(line) {
				t.Errorf("%d bytes: %q", len(line), line)
			}
		}
		if total > maxTotal || len(last) > maxLines || len(lines) > 0 && len(last) == 0 {
			t.Errorf("%d lines of %d bytes in all, of %d", len(last), total, len(lines))
		}
		if cut := Cut(string(data)); len(cut) > maxLine {
			t.Errorf("cut to %d bytes", len(cut))
		}
	})
}
