package drain

import (
	"context"
	"errors"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/probe"
)

// ownLeaves is how long our own question for a token may stay in the engine's gauges after it was given up: a
// llama-server looks each second whether its client is there, and a manager as often whether its engine is stopped.
const ownLeaves = 3 * time.Second

// Serves reports whether an engine that is not ready has requests of clients: its gauges show them, or it has said that it is
// healthy and is too full to answer now. own says that it may have our own question for a token.
func Serves(ctx context.Context, count Count, own bool, healthy func() bool) bool {
	for began, seen := time.Now(), false; ctx.Err() == nil; {
		n, facts, err := count(ctx)
		switch {
		case err != nil:
			return facts.Held == "" && errors.Is(err, probe.ErrNoAnswer) && healthy()
		case n == 0 && !seen:
			return false
		case n == 0:
			seen = false // what has left the gauges may have its last bytes to be sent
		case n > 1 || !own || time.Since(began) > ownLeaves:
			return true
		default:
			seen = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(confirm):
		}
	}
	return false
}
