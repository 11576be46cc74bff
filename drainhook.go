package provisioner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/drain"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/hook"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
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
		one := hookRun{abort: h.OnFailure == "abort"}
		perform := func(ctx context.Context) error { return runHookCommand(ctx, h.Command, r, handoff) }
		what := "command"
		if h.HTTP != nil {
			perform = func(ctx context.Context) error {
				return h.HTTP.send(ctx, p.cfg, func(ref SecretRef) (secret.Text, error) { return p.hookSecret(r, ref) })
			}
			what = "http"
		}
		one.name = fmt.Sprintf("drain.hooks[%d] (%s)", i, what)
		timeout := cmp.Or(time.Duration(h.Timeout), defaultDrainHookTimeout)
		one.run = func(ctx context.Context) error {
			ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done after %s", timeout))
			defer cancel()
			err := perform(ctx)
			if err != nil && ctx.Err() != nil {
				err = fmt.Errorf("%w%s", context.Cause(ctx), hook.Said(err))
			}
			return err
		}
		all = append(all, one)
	}
	return all
}

// runHooks runs the hooks, one after the other. Its error is that of a hook whose failure is fatal.
func (p *EngineProvisioner) runHooks(ctx context.Context, r *run) error {
	for _, h := range p.hooks(r) {
		if errors.Is(context.Cause(ctx), drain.ErrOver) {
			p.note(fmt.Sprintf("the drain's time is over before the hook %s", h.name))
			continue
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was called off, which is no failure of a hook
		}
		err := h.run(ctx)
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, drain.ErrExited), errors.Is(cause, drain.ErrHurry):
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

// hooked is what the placeholders of a request stand for.
func (c ProvisionConfig) hooked() hook.Replica {
	return hook.Replica{Pool: c.PoolID, Replica: c.ReplicaID, URL: probe.URL(port.Loopback(c.WithDefaults().Host), c.Port), Port: c.Port}
}

// send makes the request of a hook. Its errors hold neither the query of the address nor a header.
func (h HTTPHook) send(ctx context.Context, cfg ProvisionConfig, read func(SecretRef) (secret.Text, error)) error {
	header, redact, err := h.headers(read)
	if err != nil {
		return err
	}
	return hook.Request{
		Method: cmp.Or(h.Method, http.MethodPost), URL: cfg.hooked().Address(h.URL), Body: cfg.hooked().Fill(h.Body),
		Header: header, Hide: redact.Text,
	}.Send(ctx)
}

// hookEnvironment is what a hook's command is started with.
func hookEnvironment(r *run, h Handoff) ([]string, error) {
	handoff, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	env := environ.Hook()
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
	env, err := hookEnvironment(r, h)
	if err != nil {
		return err
	}
	return hook.Command{Argv: argv, Dir: r.rec.Dir, Env: env, Hide: r.redact.Text}.Run(ctx)
}
