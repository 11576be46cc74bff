package provisioner

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// TestSecretPrintsNothing proves that no verb, encoder or logger gets at a secret, also inside of unexported fields.
func TestSecretPrintsNothing(t *testing.T) {
	t.Parallel()
	const canary = "sk-canary"
	s := secret.Of(canary)
	holder := struct {
		key secret.Text
		all secrets
		Ref *secret.Text
	}{s, secrets{keys: secret.Keys{s}, env: map[string]secret.Text{"A": s}}, &s}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%e", "%U", "%o", "%T"} {
		for _, v := range []any{s, &s, holder, &holder, []secret.Text{s}, map[string]secret.Text{"k": s}, fmt.Errorf("wrapped: %v", s)} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	if err := json.NewEncoder(&out).Encode(map[string]any{"a": s, "b": &s, "c": []secret.Text{s}, "d": holder}); err != nil {
		t.Error(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "key", s, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "key", s, "holder", holder)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprint([]byte(canary))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q is printed", form)
		}
	}
	if !strings.Contains(out.String(), redact.Word) || s.Reveal() != canary || (secret.Text{}).Reveal() != "" {
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
		ref  settings.SecretRef
		want string
		err  []string
	}{
		{ref: settings.SecretRef{FromEnv: "TEST_SECRET"}, want: "from env"},
		{ref: settings.SecretRef{FromFile: file("plain", "sk")}, want: "sk"},
		{ref: settings.SecretRef{FromFile: file("newline", "sk\n")}, want: "sk"},
		{ref: settings.SecretRef{FromFile: file("windows", "sk\r\n")}, want: "sk"},
		{ref: settings.SecretRef{FromFile: file("spaces", " s k \n")}, want: " s k "},
		{ref: settings.SecretRef{FromFile: filepath.Join(dir, "plain")}, want: "sk"},
		{ref: settings.SecretRef{FromFile: "link"}, want: "sk"}, // as Kubernetes mounts them
		{ref: settings.SecretRef{FromEnv: "TEST_EMPTY"}, err: []string{`"TEST_EMPTY" is not set`, "set it"}},
		{ref: settings.SecretRef{FromEnv: "TEST_NONE"}, err: []string{`"TEST_NONE" is not set`}},
		{ref: settings.SecretRef{FromEnv: "TEST_LINES"}, err: []string{`"TEST_LINES"`, "control character"}},
		{ref: settings.SecretRef{FromFile: file("empty", "")}, err: []string{"empty\" is empty", "put the secret into it"}},
		{ref: settings.SecretRef{FromFile: file("blank", "\n")}, err: []string{"is empty"}},
		{ref: settings.SecretRef{FromFile: file("two", "sk-canary\nsk-canary\n")}, err: []string{"control character", "on one line"}},
		{ref: settings.SecretRef{FromFile: file("large", strings.Repeat("sk-canary", 2<<10))}, err: []string{"larger than 16 KiB"}},
		{ref: settings.SecretRef{FromFile: "none"}, err: []string{"no such file", "from_file"}},
		{ref: settings.SecretRef{FromFile: "."}, err: []string{"is a folder", "from_file"}},
		{ref: settings.SecretRef{FromFile: "pipe"}, err: []string{"is a pipe", "from_file"}}, // and is not waited for
	} {
		s, err := readRef(c.ref, ProvisionConfig{Dir: dir})
		if len(c.err) == 0 {
			if err != nil || s.Reveal() != c.want {
				t.Errorf("%+v: %q (%v), want %q", c.ref, s.Reveal(), err, c.want)
			}
			continue
		}
		wantText(t, err, c.err...)
		if err != nil && strings.Contains(err.Error(), "canary") || s.Reveal() != "" {
			t.Errorf("%+v: gives the secret away: %v", c.ref, err)
		}
	}
}

func TestReadSecretsTellsAll(t *testing.T) {
	t.Parallel()
	cfg := ProvisionConfig{
		Dir: t.TempDir(), APIKey: &settings.SecretRef{FromFile: "no-key"},
		Env: map[string]settings.EnvValue{"A": {Secret: &settings.SecretRef{FromEnv: "NO_SUCH_VARIABLE"}}, "B": {Value: "plain"}},
	}
	s, err := readSecrets(cfg)
	wantText(t, err, "api_key: ", "no-key", "env.A: ", "NO_SUCH_VARIABLE")
	if _, ok := s.env["B"]; ok {
		t.Error("a plain variable became a secret")
	}
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
	ask := probe.New("127.0.0.1", addr.Port, secret.Of(canary), patience)
	a, err := ask.Get(bounded(t), "/health", probe.MaxHealthBody)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.String(); !strings.HasPrefix(got, "401 Unauthorized: no such key: Bearer [redacted]. ä") || !utf8.ValidString(got) {
		t.Errorf("%q", got)
	}
	var heard string
	err = ask.AwaitHealthy(bounded(t), "/health", 0, time.Now(), func(words string) { heard = words })
	wantText(t, err, "no such key: Bearer [redacted]")
	if strings.Contains(err.Error()+heard, canary) {
		t.Errorf("the key is in %q or %q", err, heard)
	}
}
