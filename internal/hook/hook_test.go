package hook

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func hide(text string) string { return strings.ReplaceAll(text, "s3cret", "[redacted]") }

// What a command says last is told when it fails, without secrets; its path is relative to its folder.
func TestCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hook.sh"), []byte("echo first; echo \"it is $KEY\"; exit $1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(argv ...string) error {
		return Command{Argv: argv, Dir: dir, Env: []string{"KEY=s3cret", "PATH=" + os.Getenv("PATH")}, Hide: hide}.Run(t.Context())
	}
	if err := run("sh", "hook.sh", "0"); err != nil {
		t.Error(err)
	}
	if err := run("sh", "hook.sh", "3"); err == nil || err.Error() != `"sh" exited with code 3: "it is [redacted]"` {
		t.Errorf("%v", err)
	}
	if err := run("sh", "-c", "kill -9 $$"); err == nil || err.Error() != `"sh" was ended by signal: killed` {
		t.Errorf("%v", err)
	}
	if err := run("no-such-program"); err == nil || !strings.HasPrefix(err.Error(), `cannot find the program "no-such-program" in PATH`) {
		t.Errorf("%v", err)
	}
	if err := run("./absent"); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "absent")) {
		t.Errorf("%v", err)
	}
}

// The end of the context ends the command with its group, and is told with what the command has said so far.
func TestCommandEndsWithItsContext(t *testing.T) {
	t.Parallel()
	late := errors.New("not done in time")
	ctx, cancel := context.WithCancelCause(t.Context())
	seen := filepath.Join(t.TempDir(), "seen")
	go func() {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if _, err := os.Stat(seen); err == nil {
				break
			}
		}
		cancel(late)
	}()
	err := Command{Argv: []string{"sh", "-c", "echo waiting; sleep 600 & : >" + seen + "; wait"}, Env: os.Environ(), Hide: hide}.Run(ctx)
	if !errors.Is(err, late) || Said(err) != `: "waiting"` {
		t.Errorf("%v, said%s", err, Said(err))
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ok" {
			http.Error(w, "no: s3cret\nis wrong", http.StatusForbidden)
		}
	}))
	t.Cleanup(server.Close)
	send := func(url string) error {
		return Request{Method: http.MethodPost, URL: url, Hide: hide}.Send(t.Context())
	}
	if err := send(server.URL + "/ok"); err != nil {
		t.Error(err)
	}
	want := "POST " + server.URL + "/[redacted] answers 403 Forbidden: no: [redacted] is wrong"
	if err := send(server.URL + "/s3cret?token=t0ken"); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	server.Close()
	if err := send(server.URL + "/?token=t0ken"); err == nil || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("%v", err)
	}
}
