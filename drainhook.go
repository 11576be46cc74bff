package provisioner

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// goHook is a hook of WithDrainHook.
type goHook struct {
	name string
	fn   func(context.Context, Handoff) error
}

// hookRun is one hook that is ready to run.
type hookRun struct {
	name  string // for people
	abort bool   // whether every failure is fatal
	run   func(context.Context) error
}

// hooks are all hooks of the launch, in order.
func (p *EngineProvisioner) hooks(r *run) []hookRun {
	p.mu.Lock()
	handoff := p.handoff
	p.mu.Unlock()
	var all []hookRun
	for _, h := range p.opts.drainHooks {
		all = append(all, hookRun{name: h.name, run: func(ctx context.Context) error {
			done := make(chan error, 1) // a hook that ignores its context is left behind
			go func() {
				var failed error
				err := caught.Do(p.opts.logger, p.cfg.Name(), func() { failed = h.fn(ctx, handoff) })
				done <- cmp.Or(err, failed)
			}()
			select {
			case err := <-done:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}})
	}
	for i, h := range p.cfg.Drain.Hooks {
		hook := hookRun{abort: h.OnFailure == "abort"}
		perform := func(ctx context.Context) error { return runHookCommand(ctx, h.Command, r, handoff) }
		what := "command"
		if h.HTTP != nil {
			perform = func(ctx context.Context) error {
				return h.HTTP.send(ctx, p.cfg, func(ref SecretRef) (secret.Text, error) { return p.hookSecret(r, ref) })
			}
			what = "http"
		}
		hook.name = fmt.Sprintf("drain.hooks[%d] (%s)", i, what)
		timeout := cmp.Or(time.Duration(h.Timeout), defaultDrainHookTimeout)
		hook.run = func(ctx context.Context) error {
			ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done after %s", timeout))
			defer cancel()
			err := perform(ctx)
			if err != nil && ctx.Err() != nil {
				err = fmt.Errorf("%w%s", context.Cause(ctx), saidBy(err))
			}
			return err
		}
		all = append(all, hook)
	}
	return all
}

// runHooks runs the hooks, one after the other. Its error is that of a hook whose failure is fatal.
func (p *EngineProvisioner) runHooks(ctx context.Context, r *run) error {
	for _, h := range p.hooks(r) {
		if errors.Is(context.Cause(ctx), errDrainOver) {
			p.note(fmt.Sprintf("the drain's time is over before the hook %s", h.name))
			continue
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was called off, which is no failure of a hook
		}
		err := h.run(ctx)
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errExited), errors.Is(cause, errDrainHurry):
			return nil // whatever it says, it was interrupted
		case err == nil:
			continue
		case h.abort || errors.Is(err, ErrDrainAborted):
			p.note(fmt.Sprintf("the hook %s failed, the rest of the drain is left out: %v", h.name, err))
			return fmt.Errorf("%s: %w: the hook %s failed: %w", p.cfg.Name(), ErrDrainAborted, h.name, err)
		}
		p.note(fmt.Sprintf("the hook %s failed: %v", h.name, err))
	}
	return nil
}

// headers are the headers of the request, with the secrets that read finds, and what takes the secrets among them out of a text.
func (h HTTPHook) headers(read func(SecretRef) (secret.Text, error)) (http.Header, secret.Redactor, error) {
	header := http.Header{}
	var hidden []secret.Text
	for name, value := range h.Headers {
		text := value.Value
		if value.Secret != nil {
			s, err := read(*value.Secret)
			if err != nil {
				return nil, nil, fmt.Errorf("headers.%s: %w", name, err)
			}
			hidden = append(hidden, s)
			text = s.Reveal()
			// The scheme ("Bearer …") is no secret, and what comes after it is one by itself.
			if _, token, found := strings.Cut(text, " "); found && token != "" {
				hidden = append(hidden, secret.Of(token))
			}
		}
		header.Set(name, text)
	}
	return header, secret.NewRedactor(hidden...), nil
}

// send makes the request of a hook. Its errors hold neither the query of the address nor a header.
func (h HTTPHook) send(ctx context.Context, cfg ProvisionConfig, read func(SecretRef) (secret.Text, error)) error {
	header, redact, err := h.headers(read)
	if err != nil {
		return err
	}
	method := cmp.Or(h.Method, http.MethodPost)
	req, err := http.NewRequestWithContext(ctx, method, h.expand(h.URL, cfg, true), strings.NewReader(h.expand(h.Body, cfg, false)))
	if err != nil {
		return errors.New("the address cannot be used")
	}
	req.Header = header
	client := &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: probe.MaxHeader},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	what := method + " " + redact.Text((&url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: req.URL.Path}).String())
	resp, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error // holds the whole address
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return fmt.Errorf("%s: %s", what, redact.Text(err.Error()))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, hookWords))
	text := fmt.Sprintf("%s answers %d %s", what, resp.StatusCode, http.StatusText(resp.StatusCode))
	if words := tail.Clean(strings.ReplaceAll(redact.Text(string(body)), "\n", " ")); words != "" {
		text += ": " + tail.Cut(words)
	}
	return errors.New(text)
}

// hookWords is how much of a hook's output is kept, from its end: enough for the reason.
const hookWords = 4 << 10

// hookEnvironment is what a hook's command is started with.
func hookEnvironment(r *run, h Handoff) ([]string, error) {
	handoff, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	env := environ.Engine()
	env["ENGINE_PROVISIONER_POOL"] = r.rec.Pool
	env["ENGINE_PROVISIONER_REPLICA"] = r.rec.Replica
	env["ENGINE_PROVISIONER_URL"] = h.URL
	env["ENGINE_PROVISIONER_PID"] = fmt.Sprint(r.rec.Process.PID)
	env["ENGINE_PROVISIONER_HANDOFF"] = string(handoff)
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list, nil
}

// runHookCommand runs a command until it ends or ctx does, and leaves nothing of its process group.
func runHookCommand(ctx context.Context, argv []string, r *run, h Handoff) error {
	path := argv[0]
	if strings.ContainsRune(path, os.PathSeparator) {
		path = ProvisionConfig{Dir: r.rec.Dir}.resolve(path)
	} else if found, err := exec.LookPath(path); err != nil {
		return fmt.Errorf("cannot find the program %q in PATH; write its path", path)
	} else {
		path = found
	}
	env, err := hookEnvironment(r, h)
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	p, err := proc.StartSession(proc.Command{Path: path, Args: argv[1:], Env: env, Dir: r.rec.Dir, Log: in})
	in.Close()
	if err != nil {
		return fmt.Errorf("cannot run the program %q: %w", path, err)
	}
	words := &lastBytes{limit: hookWords}
	read := make(chan struct{})
	go func() { _, _ = io.Copy(words, out); close(read) }()

	late := p.Wait(ctx)
	// Until it is reaped, the number of the group is its own and no stranger's.
	_ = syscall.Kill(-p.PID, syscall.SIGKILL)
	if late != nil {
		killed, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		unkillable := p.Wait(killed)
		cancel()
		if unkillable != nil {
			go p.Reap() // a program that hangs in the kernel must not hang the stop
			out.Close()
			<-read
			return &saidError{late, words.last(r.redact)}
		}
	}
	status := p.Reap()
	select {
	case <-read:
	case <-time.After(time.Second): // something that has left the group holds it open
		out.Close()
		<-read
	}
	switch {
	case late != nil:
		return &saidError{late, words.last(r.redact)}
	case status.Signal != "":
		return &saidError{fmt.Errorf("%q was ended by signal: %s", argv[0], status.Signal), words.last(r.redact)}
	case status.Code != 0:
		return &saidError{fmt.Errorf("%q exited with code %d", argv[0], status.Code), words.last(r.redact)}
	}
	return nil
}

// saidError is a failed command with its last words.
type saidError struct {
	err   error
	words string
}

func (e *saidError) Error() string { return e.err.Error() + saidBy(e) }
func (e *saidError) Unwrap() error { return e.err }

// saidBy is what a failed command said, as the end of a message.
func saidBy(err error) string {
	var said *saidError
	if !errors.As(err, &said) || said.words == "" {
		return ""
	}
	return fmt.Sprintf(": %q", said.words)
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	limit int
	data  []byte
}

func (b *lastBytes) Write(p []byte) (int, error) {
	b.data = append(b.data, p...)
	if more := len(b.data) - b.limit; more > b.limit { // seldom, so that few bytes are moved
		b.data = append(b.data[:0], b.data[more:]...)
	}
	return len(p), nil
}

// last is the last line that says something.
func (b *lastBytes) last(redact secret.Redactor) string {
	var lines []string
	for line := range bytes.Lines(b.data) {
		lines = append(lines, tail.Clean(redact.Text(string(line))))
	}
	return tail.Cut(tail.LastWords(lines))
}
