package tail

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

const hostile = "a\x1b]0;title\x07b\x1b[2Jc\u009b31md\u202ee\rf\x00g\u2028h\xffi"

func TestPlain(t *testing.T) {
	t.Parallel()
	if got, want := Plain(hostile+"\n\tend"), "a�]0;title�b�[2Jc�31md�e�f�g�h�i\n\tend"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if text := "größe 模型 \t☃\n"; Plain(text) != text {
		t.Errorf("%q", Plain(text))
	}
}

func TestName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"model.Q4_K_M.gguf": "model.Q4_K_M.gguf", "größe/模型.gguf": "größe/模型.gguf", "": `""`, "a b": `"a b"`, "a, b": `"a, b"`,
		"a\x1b[2J": `"a\x1b[2J"`, "a\u202eb": `"a\u202eb"`, `"a"`: `"\"a\""`, "a\nerror: b": `"a\nerror: b"`,
	} {
		if got := Name(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	if got := Names([]string{"a", "b c"}); got != `a, "b c"` {
		t.Error(got)
	}
}

// However a text is cut into writes, it is the same one that comes out.
func TestWriter(t *testing.T) {
	t.Parallel()
	text := hostile + "\ngröße 模型 🙂\n"
	for size := 1; size <= len(text); size++ {
		var out bytes.Buffer
		w := Writer(&out)
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if wrote, err := w.Write([]byte(rest[:n])); wrote != n || err != nil {
				t.Fatal(wrote, err)
			}
			rest = rest[n:]
		}
		if out.String() != Plain(text) {
			t.Errorf("in pieces of %d: %q", size, out.String())
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, text string) {
		for what, got := range map[string]string{"Plain": Plain(text), "Name": Name(text), "Clean": Clean(text)} {
			for _, r := range got {
				if r != utf8.RuneError && unsafe(r) || !utf8.ValidString(got) {
					t.Errorf("%s of %q is %q", what, text, got)
				}
			}
		}
		encoded, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var back, plain string
		if err := json.Unmarshal(JSON(encoded), &back); err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal(encoded, &plain)
		if back != plain || strings.ContainsFunc(string(JSON(encoded)), func(r rune) bool { return r != utf8.RuneError && unsafe(r) }) {
			t.Errorf("%q became %q: %s", plain, back, JSON(encoded))
		}
	})
}
