package witness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/probe"
)

// Chance is one question for a token beside the looks at the engine.
type Chance struct {
	Over <-chan struct{} // closed when it has come to its end

	err error // why no token came; valid once Over is closed
}

// Token is the question for one token that an engine answers.
func Token(spec engine.LaunchSpec) probe.Token {
	return probe.Token{Path: spec.Answer.Path, Body: spec.Answer.Body, Must: spec.MustAnswer, Garbled: spec.Garbled}
}

// LastChance asks an engine of which nothing moves for one token. One that offers none is asked for its health with the same
// patience. What answers with errors is asked again, and has failed with the last of them. One that cannot be asked, for lack
// of a port, say, or since its key is another than ours by now, has not failed.
func (e Engine) LastChance(ctx context.Context, ask *probe.Prober, limit time.Duration) *Chance {
	over := make(chan struct{})
	c := &Chance{Over: over}
	go func() {
		defer close(over)
		ctx, cancel := context.WithTimeoutCause(ctx, limit, probe.ErrNoAnswer)
		defer cancel()
		err := e.askLast(ctx, ask.Within(limit))
		if _, refused := errors.AsType[*probe.UnauthorizedError](err); refused || probe.Unasked(err) {
			err = nil
		}
		c.err = err
	}()
	return c
}

func (e Engine) askLast(ctx context.Context, ask *probe.Prober) (err error) {
	const tries = 3
	spec := e.Spec
	for range tries {
		if spec.Answer == nil {
			var a probe.Answer
			if a, err = ask.Get(ctx, spec.Health, probe.MaxHealthBody); err == nil && a.Status >= http.StatusInternalServerError {
				err = fmt.Errorf("%s answers %s", spec.Health, a)
			}
		} else {
			_, err = ask.AskToken(ctx, Token(spec))
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
	return err
}

// Add tells in f where the question stands. It reports whether it is over.
func (c *Chance) Add(f *life.Facts) (over bool) {
	if c == nil {
		return false
	}
	select {
	case <-c.Over:
		f.Token = life.TokenCame
		if c.err != nil {
			f.Token, f.TokenSaid = life.TokenMissed, c.err.Error()
		}
		return true
	default:
		f.Token = life.TokenAwaited
		return false
	}
}
