package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/settings"
)

// router is a server that hooks call; it keeps the requests.
type router struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
	got  http.Header
}

func newRouter(t testing.TB, answer http.HandlerFunc) *router {
	r := &router{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.seen = append(r.seen, strings.TrimSpace(req.Method+" "+req.URL.RequestURI()+" "+string(body)))
		r.got = req.Header
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *router) calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

// Hooks run in order, after the handoff is gone and before the engine is told to end, and know the replica.
func TestDrainHooksInOrder(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	var order []string
	var mu sync.Mutex
	r := newRouter(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := os.Lstat(filepath.Join(cfg.Dir, "env")); err == nil {
			t.Error("the command ran before the request")
		}
		order = append(order, "http")
		w.WriteHeader(http.StatusOK)
	})
	cfg.Drain.Hooks = []settings.DrainHook{
		{HTTP: &settings.HTTPHook{
			URL: r.URL + "/drain/{pool}/{replica}?backend={url}", Method: "PUT", Body: `{"url":"{url}","port":{port}}`,
			Headers: map[string]settings.EnvValue{"Content-Type": {Value: "application/json"}},
		}},
		{Command: []string{"sh", "-c", `tr '\0' '\n' < /proc/self/environ > env; pwd > cwd`}},
	}
	goHook := func(name string) Option {
		return WithDrainHook(name, func(_ context.Context, h Handoff) error {
			mu.Lock()
			defer mu.Unlock()
			if h.PoolID != "pool" || h.ReplicaID != "r0" || enginetest.Inspect(t, h.URL).Signals["SIGTERM"] != 0 {
				t.Errorf("told %+v", h)
			}
			if _, err := os.Lstat(filepath.Join(cfg.StateDir, "engines", "pool-r0.json")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the handoff is there (%v)", err)
			}
			order = append(order, name)
			return nil
		})
	}
	p, j := ready(t, cfg, goHook("one"), goHook("two"))
	handoff, pid := p.handoff, p.Status().PID
	if err := p.Stop(bounded(t)); err != nil {
		t.Errorf("Stop: %v\n%s", err, j.notes())
	}
	if want := []string{"one", "two", "http"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	want := fmt.Sprintf(`PUT /drain/pool/r0?backend=http%%3A%%2F%%2F127.0.0.1%%3A%d {"url":"%s","port":%d}`, cfg.Port, handoff.URL, cfg.Port)
	if got := r.calls(); !slices.Equal(got, []string{want}) {
		t.Errorf("the router got  %q\nwant %q", got, want)
	}
	env, offered := map[string]string{}, environ.Hook(nil)
	data, err := os.ReadFile(filepath.Join(cfg.Dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
		if !strings.HasPrefix(name, "ENGINE_PROVISIONER_") && name != "PWD" && offered[name] == "" {
			t.Errorf("the command got %s", name)
		}
	}
	var told Handoff
	if err := json.Unmarshal([]byte(env["ENGINE_PROVISIONER_HANDOFF"]), &told); err != nil || told.Process.LaunchID != handoff.Process.LaunchID {
		t.Errorf("handoff %q (%v)", env["ENGINE_PROVISIONER_HANDOFF"], err)
	}
	delete(env, "ENGINE_PROVISIONER_HANDOFF")
	for name, want := range map[string]string{
		"POOL": "pool", "REPLICA": "r0", "URL": handoff.URL, "PID": strconv.Itoa(pid), "LAUNCH_ID": "",
	} {
		if got := env["ENGINE_PROVISIONER_"+name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	cwd, err := os.ReadFile(filepath.Join(cfg.Dir, "cwd"))
	if err != nil || strings.TrimSpace(string(cwd)) != cfg.Dir {
		t.Errorf("it ran in %q (%v)", cwd, err)
	}
	nothingLeft(t, p)
}

// A hook that takes too long is killed with what it has started.
func TestDrainHookTimeout(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ hook, drain time.Duration }{
		"its own":     {hook: 2 * time.Second, drain: time.Hour},
		"the drain's": {hook: time.Hour, drain: 2 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			cfg.Drain.Timeout = new(settings.Duration(test.drain))
			cfg.Drain.Hooks = []settings.DrainHook{
				{Command: []string{"sh", "-c", "sleep 600 & echo $! > pid; echo still waiting; wait"}, Timeout: settings.Duration(test.hook)},
				{Command: []string{"sh", "-c", "echo > second"}},
			}
			p, j := ready(t, cfg)
			if err := p.Stop(bounded(t)); err != nil {
				t.Errorf("Stop: %v", err)
			}
			nothingLeft(t, p)
			data, err := os.ReadFile(filepath.Join(cfg.Dir, "pid"))
			if err != nil {
				t.Fatalf("the hook did not get so far: %v\n%s", err, j.notes())
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the hook's child is gone", func() bool { return !alive(pid) })
			_, err = os.Lstat(filepath.Join(cfg.Dir, "second"))
			if name == "its own" {
				wantNote(t, j, `the hook drain.hooks[0] (command) failed: not done after 2s: "still waiting"`)
				if err != nil {
					t.Error("the second hook did not run")
				}
				return
			}
			wantNote(t, j, `(command) failed: the drain's time is over: "still waiting"`, "over before the hook drain.hooks[1]")
			if err == nil {
				t.Error("the second hook ran")
			}
		})
	}
}

// What a hook leaves in its group goes; what holds its output open is not waited for.
func TestDrainHookLeavesNothing(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Drain.Hooks = []settings.DrainHook{{Command: []string{"sh", "-c", "sleep 600 & echo $! > pid"}, OnFailure: "abort"}}
	p, j := ready(t, cfg)
	if err := p.Stop(bounded(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	data, _ := os.ReadFile(filepath.Join(cfg.Dir, "pid"))
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatalf("%v\n%s", err, j.notes())
	}
	eventually(t, "the hook's child is gone", func() bool { return !alive(pid) })
}

func TestDrainHookFailures(t *testing.T) {
	t.Parallel()
	r := newRouter(t, func(w http.ResponseWriter, req *http.Request) {
		code, _ := strconv.Atoi(strings.TrimPrefix(req.URL.Path, "/"))
		w.Header().Set("Location", "/200")
		w.WriteHeader(code)
		fmt.Fprint(w, "words of\nthe \x1b[31mrouter")
	})
	closed := probe.URL("127.0.0.1", enginetest.FreePort(t, 1))
	get := func(url string) settings.DrainHook {
		return settings.DrainHook{HTTP: &settings.HTTPHook{URL: url, Method: "GET"}}
	}
	run := func(argv ...string) settings.DrainHook { return settings.DrainHook{Command: argv} }
	tests := map[string]struct {
		hook settings.DrainHook
		want []string // nil: it succeeds
	}{
		"200":         {hook: get(r.URL + "/200")},
		"202":         {hook: get(r.URL + "/202")},
		"302":         {hook: get(r.URL + "/302?q=hunter2"), want: []string{"GET " + r.URL + "/302 answers 302 Found"}},
		"404":         {hook: get(r.URL + "/404"), want: []string{"answers 404 Not Found: words of the router"}},
		"500":         {hook: get(r.URL + "/500"), want: []string{"answers 500 Internal Server Error: words of the router"}},
		"unreachable": {hook: get(closed + "/?q=hunter2"), want: []string{"GET " + closed + "/: ", "refused"}},
		"true":        {hook: run("true")},
		"false":       {hook: run("false"), want: []string{`"false" exited with code 1`}},
		"words":       {hook: run("sh", "-c", "echo first; echo last words >&2; exit 3"), want: []string{`"sh" exited with code 3: "last words"`}},
		"flood":       {hook: run("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1"), want: []string{`"the end"`}},
		"signal":      {hook: run("sh", "-c", "kill -9 $$"), want: []string{`"sh" was ended by signal: killed`}},
		"no name":     {hook: run("no-such-program-here"), want: []string{`cannot find the program "no-such-program-here" in PATH`}},
		"no path":     {hook: run("./absent"), want: []string{"cannot run the program", "absent"}},
	}
	for name, test := range tests {
		for _, policy := range []string{"continue", "abort"} {
			t.Run(name+" "+policy, func(t *testing.T) {
				t.Parallel()
				cfg := fakeConfig(t, enginetest.Behavior{})
				hook := test.hook
				hook.OnFailure = policy
				cfg.Drain.Hooks = []settings.DrainHook{hook, {Command: []string{"sh", "-c", "echo > second"}}}
				p, j := ready(t, cfg)
				err := p.Stop(bounded(t))
				aborted := policy == "abort" && test.want != nil
				if errors.Is(err, ErrDrainAborted) != aborted || err != nil && !aborted {
					t.Errorf("Stop: %v", err)
				}
				wantNote(t, j, test.want...)
				if aborted {
					wantText(t, err, append(test.want, "pool/r0: ", "the hook drain.hooks[0]")...)
					if again := p.Stop(bounded(t)); again == nil || again.Error() != err.Error() {
						t.Errorf("the second Stop: %v", again)
					}
				}
				if test.want == nil && j.notes() != "" {
					t.Errorf("notes: %s", j.notes())
				}
				if _, err := os.Lstat(filepath.Join(cfg.Dir, "second")); (err == nil) == aborted {
					t.Errorf("the second hook: %v", err)
				}
				if strings.Contains(j.notes(), "hunter2") {
					t.Errorf("a query is in the notes: %s", j.notes())
				}
				if p.Err() != nil || p.Status().State != StateStopped {
					t.Errorf("%v, %s", p.Err(), p.Status().State)
				}
				nothingLeft(t, p)
			})
		}
	}
}

func TestGoDrainHooks(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	t.Run("continue", func(t *testing.T) {
		t.Parallel()
		p, j := ready(t, fakeConfig(t, enginetest.Behavior{}), WithDrainHook("mine", func(context.Context, Handoff) error { return boom }))
		if err := p.Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		wantNote(t, j, "the hook mine failed: boom")
	})
	t.Run("abort", func(t *testing.T) {
		t.Parallel()
		p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}), WithDrainHook("mine", func(context.Context, Handoff) error {
			return fmt.Errorf("%w: %w", boom, ErrDrainAborted)
		}))
		if err := p.Stop(bounded(t)); !errors.Is(err, ErrDrainAborted) || !errors.Is(err, boom) {
			t.Errorf("Stop: %v", err)
		}
		nothingLeft(t, p)
	})
	t.Run("deaf", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{})
		cfg.Drain.Timeout = new(settings.Duration(2 * time.Second))
		end := make(chan struct{})
		t.Cleanup(func() { close(end) })
		p, j := ready(t, cfg, WithDrainHook("deaf", func(context.Context, Handoff) error { <-end; return nil }))
		if err := p.Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		wantNote(t, j, "the hook deaf failed: the drain's time is over")
	})
	// It is told when it need not go on.
	for _, why := range []string{"kill", "death"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			cfg.Drain.Timeout = new(settings.Duration(time.Hour))
			began, ended := make(chan struct{}), make(chan struct{})
			p, j := ready(t, cfg, WithDrainHook("patient", func(ctx context.Context, _ Handoff) error {
				close(began)
				<-ctx.Done()
				close(ended)
				return ctx.Err()
			}))
			stopped := stopping(bounded(t), p)
			<-began
			if why == "kill" {
				if err := p.Kill(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
					t.Error(err)
				}
			} else if err := p.run.host().Leader.Signal(9); err != nil {
				t.Error(err)
			}
			<-ended
			if err := <-stopped; err != nil && !errors.Is(err, ErrKilled) {
				t.Errorf("Stop: %v", err)
			}
			if notes := j.notes(); strings.Contains(notes, "patient") {
				t.Errorf("notes: %s", notes)
			}
			nothingLeft(t, p)
		})
	}
}

// The secret in a header reaches the router and nothing else.
func TestDrainHookSecret(t *testing.T) {
	t.Parallel()
	r := newRouter(t, func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "not for %s or %q", req.Header.Get("Authorization"), strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "))
	})
	cfg := fakeConfig(t, enginetest.Behavior{})
	if err := os.WriteFile(filepath.Join(cfg.Dir, "token"), []byte("Bearer hunter2-s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Drain.Hooks = []settings.DrainHook{{
		OnFailure: "abort",
		HTTP:      &settings.HTTPHook{URL: r.URL, Headers: map[string]settings.EnvValue{"Authorization": {Secret: &settings.SecretRef{FromFile: "token"}}}},
	}}
	var log strings.Builder
	p, j := ready(t, cfg, WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	err := p.Stop(bounded(t))
	if !errors.Is(err, ErrDrainAborted) {
		t.Errorf("Stop: %v", err)
	}
	wantText(t, err, "403 Forbidden", redact.Word)
	if got := r.got.Get("Authorization"); got != "Bearer hunter2-s3cret" {
		t.Errorf("the router got %q", got)
	}
	places := filesBelow(t, cfg.StateDir)
	places["error"], places["notes"], places["log"], places["events"] = formatAll(err), j.notes(), log.String(), formatAll(j.events)
	for place, text := range places {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s holds the secret:\n%s", place, text)
		}
	}
}

// A secret that is not there is known before the start, not when the engine is to be drained.
func TestDrainHookSecretIsMissing(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Drain.Hooks = []settings.DrainHook{{HTTP: &settings.HTTPHook{
		URL: "http://127.0.0.1/", Headers: map[string]settings.EnvValue{"Authorization": {Secret: &settings.SecretRef{FromFile: "absent"}}},
	}}}
	p, _ := newLaunch(t, cfg)
	wantText(t, p.Start(bounded(t)), "drain.hooks[0].http.headers.Authorization: cannot read the secret", "absent")
}
