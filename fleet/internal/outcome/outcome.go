// Package outcome puts into one event or error what came of a change of several replicas, or of a recovery.
//
// A fleet calls it. It is pure.
package outcome

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/report"
)

// OfRecovery tells of a recovery.
func OfRecovery(f provisioner.Recovered) provisioner.Event {
	e := provisioner.Event{
		Time: time.Now().UTC(), Pool: f.Pool, Replica: f.Replica, Kind: provisioner.EventRecovery, Recovery: f.Result, PID: f.PID, Message: string(f.Result),
		Took: f.Took.Round(time.Microsecond).Seconds(),
	}
	switch {
	case f.Err != nil:
		e.Message += ": " + f.Err.Error()
	case f.Reason != "":
		e.Message += ": " + f.Reason
	}
	return e
}

// OfStops joins what came of stops. A kill, which is a remark, is told where nothing else is wrong: beside a failure it
// would be taken for all that happened.
func OfStops(errs []error) error {
	failed := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil || errors.Is(err, provisioner.ErrKilled) })
	if len(failed) == 0 {
		return errors.Join(errs...)
	}
	return errors.Join(failed...)
}

// OfSwap says to each of a group what came of it, and why.
func OfSwap(names []string, errs []error, outcome string) []error {
	told := make([]error, len(errs))
	for i, name := range names {
		if errs[i] != nil {
			told[i] = fmt.Errorf("cannot reload %s, %s: %w", name, outcome, errs[i])
			continue
		}
		other := slices.IndexFunc(errs, func(err error) bool { return err != nil })
		told[i] = fmt.Errorf("cannot reload %s, %s: %s, with which it changes ports, failed: %w", name, outcome, names[other], errs[other])
	}
	return told
}

// Text is an error as results encode it.
func Text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// OfStand is what is told of a replica that a new fleet takes on, where an earlier one has left it waiting or stopped; ok is false
// where there is nothing to tell. by reads who has stopped it, where that matters.
func OfStand(id provisioner.ReplicaID, past report.Restarts, held *hold.Hold, by func() string, now time.Time) (e provisioner.Event, ok bool) {
	e = provisioner.Event{
		Time: now.UTC(), Pool: id.Pool, Replica: id.Replica, Kind: provisioner.EventNote, State: provisioner.StateNew, Cause: past.Cause,
		Attempt: past.Attempts + 1,
	}
	wait := past.RetryAt.Sub(now).Round(100 * time.Millisecond)
	switch {
	case held != nil:
		e.State, e.Cause, e.Hold = provisioner.StateStopped, "", held
		e.Message = (&hold.Error{Replica: id.String(), Hold: *held}).Error()
	case past.Phase == report.PhaseStopped:
		e.State, e.Cause = provisioner.StateStopped, ""
		e.Message = fmt.Sprintf("it was stopped by %s under an earlier manager, and stays so until it is started (engine-provisioner start %s)", by(), id)
	case policy.Waits(past) && wait > 0:
		e.Message = fmt.Sprintf("it failed under an earlier manager, and is started in %s", wait)
	default:
		return e, false
	}
	return e, true
}

// GoesOn says that a caller has stopped waiting for what goes on.
func GoesOn(ctx context.Context, what string) error {
	return fmt.Errorf("no longer waiting for %s, which goes on: %w", what, context.Cause(ctx))
}
