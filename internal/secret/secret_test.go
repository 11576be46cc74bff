package secret_test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

func TestRedactor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secrets []string
		in      string
		want    string
	}{
		"none":         {nil, "text", "text"},
		"no key":       {[]string{""}, "text", "text"},
		"raw":          {[]string{"sk-1"}, "key sk-1, again sk-1!", "key [redacted], again [redacted]!"},
		"another text": {[]string{"sk-1"}, "sk-2", "sk-2"},
		"one in another": {
			[]string{"abc", "xabcy"}, "xabcy abc", "[redacted] [redacted]",
		},
		"overlapping":         {[]string{"abcd", "cdef"}, "-abcdef-", "-[redacted]-"},
		"overlapping itself":  {[]string{"aba"}, "-ababa-", "-[redacted]-"},
		"part of the mark":    {[]string{"e", "long secret"}, "long secret e", "[redacted] [redacted]"},
		"query":               {[]string{"a b&c"}, "?key=a+b%26c", "?key=[redacted]"},
		"path":                {[]string{"a b/c"}, "/a%20b%2Fc/", "/[redacted]/"},
		"JSON":                {[]string{`a"b\c`}, `{"key":"a\"b\\c"}`, `{"key":"[redacted]"}`},
		"JSON, quote at ends": {[]string{`"a"`}, `{"key":"\"a\""}`, `{"key":"[redacted]"}`},
		"base64":              {[]string{"abcd"}, "YWJjZA== YWJjZA", "[redacted]== [redacted]"},
		"base64 for URLs":     {[]string{"???>>>"}, "Pz8_Pj4- Pz8/Pj4+", "[redacted] [redacted]"},
		"trimmed":             {[]string{"end "}, "at the end", "at the [redacted]"},
	} {
		var all []secret.Text
		for _, text := range c.secrets {
			all = append(all, secret.Of(text))
		}
		r := secret.NewRedactor(all...)
		if got := r.Text(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if got := r.Lines([]string{c.in, "x"}); len(got) != 2 || got[0] != c.want {
			t.Errorf("%s: lines %q", name, got)
		}
	}
}

// FuzzRedactor holds that no form of a secret survives, wherever an engine prints it, and that the rest does.
func FuzzRedactor(f *testing.F) {
	f.Add([]byte("sk-canary"), []byte("other"), "before ", " after")
	f.Add([]byte{0, 1, 2, 0, 1, 2}, []byte{2, 0, 1}, "QQ", "\x1b[31m")
	f.Add([]byte{11, 12, 13, 14}, []byte{15}, "\xff", "\n")
	f.Add([]byte{9, 9, 9}, []byte{9}, "[redacted]", "redacted")
	mark := redact.Word
	f.Fuzz(func(t *testing.T, first, second []byte, before, after string) {
		// No letter of "[redacted]", whose own text would be found otherwise.
		const alphabet = `QXZ0189 +/=&?%"\'<ß模` + "\u0085\u202e"
		word := func(data []byte) string {
			letters := []rune(alphabet)
			var text strings.Builder
			for _, b := range data {
				text.WriteRune(letters[int(b)%len(letters)])
			}
			return text.String()
		}
		forms := func(text string) []string {
			if text == "" {
				return nil
			}
			quoted, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			return []string{
				text, string(quoted[1 : len(quoted)-1]), url.QueryEscape(text), url.PathEscape(text),
				base64.StdEncoding.EncodeToString([]byte(text)), base64.RawStdEncoding.EncodeToString([]byte(text)),
				base64.URLEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)),
			}
		}
		a, b := word(first), word(second)
		r := secret.NewRedactor(secret.Of(a), secret.Of(b))
		all := append(forms(a), forms(b)...)
		for _, form := range all {
			got := r.Text(before + form + after)
			for _, f := range all {
				// Base64 has all letters, so that a short form is found in the mark itself.
				if strings.Contains(got, f) && !strings.Contains(mark, f) {
					t.Errorf("%q survives in %q", f, got)
				}
			}
			if !strings.Contains(got, redact.Word) {
				t.Errorf("nothing is redacted in %q", got)
			}
			if line := r.Text(tail.Clean("x " + form)); tail.Clean(a) != "" && strings.Contains(line, tail.Clean(a)) {
				t.Errorf("%q survives the cleaning as %q", a, line)
			}
		}
	})
}
