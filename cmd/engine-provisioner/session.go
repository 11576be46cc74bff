package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/report"
)

// readyOf says how many replicas are fit to be used.
func readyOf(all []provisioner.Status) string {
	ready := 0
	for _, status := range all {
		if status.State == provisioner.StateReady {
			ready++
		}
	}
	return fmt.Sprintf("%d of %d replicas ready", ready, len(all))
}

// heed acts on what has happened.
func (s *session) heed() {
	all := s.engines.Status()
	s.manager.status(readyOf(all))
	s.logs.Look(s.engines, all)
}

// preparing reports whether a preparation has told how far it is since the last call.
func (s *session) preparing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.goesOn
	s.goesOn = false
	return was
}

// startTime is how long a start can take behind its preparation.
func (s *session) startTime() time.Duration {
	longest := 20 * time.Minute // the default of ready.timeout
	for _, config := range s.configs {
		longest = max(longest, time.Duration(config.Ready.Timeout))
	}
	return longest + 5*time.Minute
}

// goesOnWithout reports whether the run goes on though not all replicas have started.
func (s *session) goesOnWithout() bool {
	return s.tookOver() || s.flags.keep && slices.ContainsFunc(s.engines.Status(), func(status provisioner.Status) bool {
		return status.State == provisioner.StateReady
	})
}

// why says at last why the run ends: what was told of that can be far up by now.
func (s *session) why(text string, err error) {
	if err != nil {
		first, _, _ := strings.Cut(s.inWords(err.Error()), "\n")
		if text != "" {
			text += ": "
		}
		text += first
	} else {
		text += "; commands have stopped all"
	}
	if len(s.configs) > 1 || err == nil { // else it was told just now
		s.show.say("ended: " + text)
	}
}

// tookOver reports whether the run goes on with engines of an earlier one.
func (s *session) tookOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.adopted
}

// allServe reports whether every replica serves that is not left stopped.
func (s *session) allServe() bool {
	return !slices.ContainsFunc(s.engines.Status(), func(status provisioner.Status) bool {
		return status.State != provisioner.StateReady && !isStopped(status)
	})
}

// lacks reports whether a replica runs without the GPU that its settings require.
func lacks(status provisioner.Status) bool {
	return slices.ContainsFunc(status.Differs, func(d report.Difference) bool { return d.Key == "gpu" })
}

// isLacking reports whether err is that of an adopted engine that serves without the GPU that it requires.
func (s *session) isLacking(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, lacking := range s.lacking {
		if errors.Is(err, lacking) {
			return true
		}
	}
	return false
}

// failures are those of the replicas that were given up, or run without their GPU, which have been told.
func (s *session) failures() error {
	all := s.engines.Status() // not under the lock: whoever tells an event holds one of the library's, and waits for ours
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, status := range all {
		if err := s.given[status.Pool+"/"+status.Replica]; err != nil && status.Restarts.Phase == report.PhaseFailed {
			return &toldError{err}
		}
		if err := s.lacking[status.Pool+"/"+status.Replica]; err != nil && lacks(status) {
			return &toldError{err}
		}
	}
	return nil
}

// startStopped starts the replicas that commands have stopped under an earlier manager, if that is asked for, or if they are
// all: whoever starts a manager wants it to run something, and that one has ended when the last replica was stopped.
func (s *session) startStopped(ctx context.Context) {
	all := s.engines.Status()
	if !s.flags.stopped && slices.ContainsFunc(all, func(status provisioner.Status) bool { return !isStopped(status) }) {
		return
	}
	if !s.flags.stopped && slices.ContainsFunc(all, func(status provisioner.Status) bool { return status.Hold == nil }) {
		s.show.say("all replicas were left stopped; they are started")
	}
	for _, status := range all {
		if !isStopped(status) {
			continue
		}
		_ = s.engines.Start(ctx, status.ID()) // it fails with ctx, which the run notices
	}
}

// isStopped reports whether a replica is left stopped because a command has stopped it.
func isStopped(status provisioner.Status) bool {
	return status.Restarts != nil && status.Restarts.Phase == report.PhaseStopped
}

// leaveReady leaves the engines alone that are ready, and stops the others: nobody would tell when they are.
func (s *session) leaveReady() error {
	all, err := s.engines.Status(), s.engines.Release()
	for _, status := range all {
		if status.State == provisioner.StateReady || status.PID == 0 {
			continue
		}
		p, failed := provisioner.Attach(s.configs[0].StateDir, status.ID(), withContainers()...)
		if failed == nil {
			failed = s.signals.heed(p.Stop, p.Kill)
		}
		if failed != nil && !errors.Is(failed, provisioner.ErrNotRunning) && !errors.Is(failed, provisioner.ErrKilled) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// release leaves the engines alone, unless one of them has died meanwhile. Whoever has asked for a replica by a start, or for
// nothing else, and does not get it because it is held, must not believe that it runs.
func (s *session) release() error {
	all, held, ready := s.engines.Status(), error(nil), false
	for _, status := range all {
		switch {
		case status.State == provisioner.StateReady:
			ready = true
		case status.Hold != nil:
			held = &hold.Error{Replica: status.ID().String(), Hold: *status.Hold}
		case !isStopped(status):
			err := fmt.Errorf("%s/%s died before it could be left alone", status.Pool, status.Replica)
			return errors.Join(err, s.stopAll())
		}
	}
	err := s.engines.Release()
	if held != nil && (s.flags.stopped || !ready) {
		err = errors.Join(err, held)
	}
	return err
}

// stopAll ends all engines at once. A second signal ends their grace.
func (s *session) stopAll() error {
	s.manager.stopping()
	err := s.signals.heed(s.engines.Shutdown, s.engines.KillAll)
	var failed error
	for _, err := range unjoin(err) {
		if errors.Is(err, provisioner.ErrKilled) {
			s.show.say(err.Error())
			continue
		}
		s.show.fail(err)
		failed = errors.Join(failed, &toldError{err})
	}
	return failed
}

// unjoin are the errors that errors.Join has put together.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
