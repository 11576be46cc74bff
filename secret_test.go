package provisioner

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

func secretOf(text string) secret { return secret{&text} }

// TestSecretPrintsNothing proves that no verb, encoder or logger gets at a secret, also inside of unexported fields.
func TestSecretPrintsNothing(t *testing.T) {
	t.Parallel()
	const canary = "sk-canary"
	s := secretOf(canary)
	holder := struct {
		key secret
		all secrets
		Ref *secret
	}{s, secrets{key: s, env: map[string]secret{"A": s}}, &s}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%e", "%U", "%o", "%T"} {
		for _, v := range []any{s, &s, holder, &holder, []secret{s}, map[string]secret{"k": s}, fmt.Errorf("wrapped: %v", s)} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	if err := json.NewEncoder(&out).Encode(map[string]any{"a": s, "b": &s, "c": []secret{s}, "d": holder}); err != nil {
		t.Error(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "key", s, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "key", s, "holder", holder)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprint([]byte(canary))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q is printed", form)
		}
	}
	if !strings.Contains(out.String(), redact.Word) || s.reveal() != canary || (secret{}).reveal() != "" {
		t.Error("a secret cannot be told from nothing")
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("plain", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_SECRET", "from env")
	t.Setenv("TEST_EMPTY", "")
	t.Setenv("TEST_LINES", "sk-canary\nmore")
	for _, c := range []struct {
		ref  SecretRef
		want string
		err  []string
	}{
		{ref: SecretRef{FromEnv: "TEST_SECRET"}, want: "from env"},
		{ref: SecretRef{FromFile: file("plain", "sk")}, want: "sk"},
		{ref: SecretRef{FromFile: file("newline", "sk\n")}, want: "sk"},
		{ref: SecretRef{FromFile: file("windows", "sk\r\n")}, want: "sk"},
		{ref: SecretRef{FromFile: file("spaces", " s k \n")}, want: " s k "},
		{ref: SecretRef{FromFile: filepath.Join(dir, "plain")}, want: "sk"},
		{ref: SecretRef{FromFile: "link"}, want: "sk"}, // as Kubernetes mounts them
		{ref: SecretRef{FromEnv: "TEST_EMPTY"}, err: []string{`"TEST_EMPTY" is not set`, "set it"}},
		{ref: SecretRef{FromEnv: "TEST_NONE"}, err: []string{`"TEST_NONE" is not set`}},
		{ref: SecretRef{FromEnv: "TEST_LINES"}, err: []string{`"TEST_LINES"`, "control character"}},
		{ref: SecretRef{FromFile: file("empty", "")}, err: []string{"empty\" is empty", "put the secret into it"}},
		{ref: SecretRef{FromFile: file("blank", "\n")}, err: []string{"is empty"}},
		{ref: SecretRef{FromFile: file("two", "sk-canary\nsk-canary\n")}, err: []string{"control character", "on one line"}},
		{ref: SecretRef{FromFile: file("large", strings.Repeat("sk-canary", 2<<10))}, err: []string{"larger than 16 KiB"}},
		{ref: SecretRef{FromFile: "none"}, err: []string{"no such file", "from_file"}},
		{ref: SecretRef{FromFile: "."}, err: []string{"is a folder", "from_file"}},
		{ref: SecretRef{FromFile: "pipe"}, err: []string{"is a pipe", "from_file"}}, // and is not waited for
	} {
		s, err := c.ref.read(ProvisionConfig{Dir: dir})
		if len(c.err) == 0 {
			if err != nil || s.reveal() != c.want {
				t.Errorf("%+v: %q (%v), want %q", c.ref, s.reveal(), err, c.want)
			}
			continue
		}
		wantText(t, err, c.err...)
		if err != nil && strings.Contains(err.Error(), "canary") || s.reveal() != "" {
			t.Errorf("%+v: gives the secret away: %v", c.ref, err)
		}
	}
}

func TestReadSecretsTellsAll(t *testing.T) {
	t.Parallel()
	cfg := ProvisionConfig{
		Dir: t.TempDir(), APIKey: &SecretRef{FromFile: "no-key"},
		Env: map[string]EnvValue{"A": {Secret: &SecretRef{FromEnv: "NO_SUCH_VARIABLE"}}, "B": {Value: "plain"}},
	}
	s, err := readSecrets(cfg)
	wantText(t, err, "api_key: ", "no-key", "env.A: ", "NO_SUCH_VARIABLE")
	if _, ok := s.env["B"]; ok {
		t.Error("a plain variable became a secret")
	}
}

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
		var all []secret
		for _, text := range c.secrets {
			all = append(all, secretOf(text))
		}
		r := newRedactor(all...)
		if got := r.text(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if got := r.lines([]string{c.in, "x"}); len(got) != 2 || got[0] != c.want {
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
		r := newRedactor(secretOf(a), secretOf(b))
		all := append(forms(a), forms(b)...)
		for _, form := range all {
			got := r.text(before + form + after)
			for _, f := range all {
				// Base64 has all letters, so that a short form is found in the mark itself.
				if strings.Contains(got, f) && !strings.Contains(redact.Word, f) {
					t.Errorf("%q survives in %q", f, got)
				}
			}
			if !strings.Contains(got, redact.Word) {
				t.Errorf("nothing is redacted in %q", got)
			}
			if line := r.text(tail.Clean("x " + form)); tail.Clean(a) != "" && strings.Contains(line, tail.Clean(a)) {
				t.Errorf("%q survives the cleaning as %q", a, line)
			}
		}
	})
}

// TestAnswerHidesKey proves that an engine that repeats the key when it refuses it does not bring it into an error.
func TestAnswerHidesKey(t *testing.T) {
	t.Parallel()
	const canary = "sk-canary"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error":{"message":"no such key: %s. %s"}}`, r.Header.Get("Authorization"), strings.Repeat("ä", 200))
	}))
	t.Cleanup(server.Close)
	addr := server.Listener.Addr().(*net.TCPAddr)
	ask := newProber("127.0.0.1", addr.Port, secretOf(canary), patience)
	a, err := ask.get(bounded(t), "/health", maxHealthBody)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.String(); !strings.HasPrefix(got, "401 Unauthorized: no such key: Bearer [redacted]. ä") || !utf8.ValidString(got) {
		t.Errorf("%q", got)
	}
	var heard string
	err = ask.awaitHealthy(bounded(t), "/health", 0, time.Now(), func(words string) { heard = words })
	wantText(t, err, "no such key: Bearer [redacted]")
	if strings.Contains(err.Error()+heard, canary) {
		t.Errorf("the key is in %q or %q", err, heard)
	}
}
