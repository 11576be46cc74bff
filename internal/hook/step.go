package hook

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// patience bounds a hook that says nothing itself.
const patience = 10 * time.Second

// Step is a hook that is ready to run.
type Step struct {
	Name  string // for people
	Fatal bool   // whether every failure ends the drain
	Run   func(context.Context) error
}

// Launch is what hooks are done for.
type Launch struct {
	Replica Replica
	PID     int
	Handoff any
	Dir     string                   // of commands
	Env     map[string]string        // of commands, beside what they are told of the launch
	Hide    func(text string) string // takes out what must not be seen of a command's words
	Secret  func(settings.SecretRef) (secret.Text, error)
}

// Steps are the hooks of a configuration, in order.
func Steps(hooks []settings.DrainHook, of Launch) []Step {
	all := make([]Step, len(hooks))
	for i, h := range hooks {
		what, perform := "command", func(ctx context.Context) error { return of.command(ctx, h.Command) }
		if h.HTTP != nil {
			what, perform = "http", func(ctx context.Context) error { return of.request(ctx, *h.HTTP) }
		}
		all[i] = Step{Name: fmt.Sprintf("drain.hooks[%d] (%s)", i, what), Fatal: h.OnFailure == "abort", Run: within(cmp.Or(time.Duration(h.Timeout), patience), perform)}
	}
	return all
}

// within is perform with a limit, which is told with what was said before it.
func within(limit time.Duration, perform func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %s", limit))
		defer cancel()
		err := perform(ctx)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w%s", context.Cause(ctx), Said(err))
		}
		return err
	}
}

// command runs a command until it ends or ctx does, and leaves nothing of its process group.
func (l Launch) command(ctx context.Context, argv []string) error {
	about := About{Pool: l.Replica.Pool, Replica: l.Replica.Replica, URL: l.Replica.URL, PID: l.PID, Handoff: l.Handoff}
	env, err := about.Environment(l.Env)
	if err != nil {
		return err
	}
	return Command{Argv: argv, Dir: l.Dir, Env: env, Hide: l.Hide}.Run(ctx)
}

// request makes a request. Its errors hold neither the query of the address nor a header.
func (l Launch) request(ctx context.Context, h settings.HTTPHook) error {
	header, redact, err := Headers(h.Headers, l.Secret)
	if err != nil {
		return err
	}
	return Request{
		Method: cmp.Or(h.Method, http.MethodPost), URL: l.Replica.Address(h.URL), Body: l.Replica.Fill(h.Body),
		Header: header, Hide: redact.Text,
	}.Send(ctx)
}
