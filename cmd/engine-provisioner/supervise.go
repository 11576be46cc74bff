package main

import (
	"context"
	"errors"
	"net"
	"slices"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// supervise runs the replicas under a supervisor, with its metrics at the listener, until a signal comes, or one of them
// does not become ready, or none is left.
func (c *cli) supervise(ctx context.Context, configs []provisioner.ProvisionConfig, show *reporter, metrics net.Listener) error {
	s, err := provisioner.Supervise(ctx, configs, provisioner.WithEventFunc(show.event))
	if err != nil {
		metrics.Close()
		return err
	}
	server := serveMetrics(metrics, s.Collector())
	defer server.close()
	show.say("metrics at " + server.url)

	err = s.WaitReady(ctx)
	ready := err == nil
	if ready {
		err = s.Wait(ctx)
	}
	var failed error
	switch interrupted := interruption(ctx); {
	case interrupted != nil:
		if !ready && !allReady(s) { // who has seen that all are ready may interrupt before WaitReady has returned
			failed = interrupted
		}
		show.say("stopping")
	case err != nil:
		show.fail(err)
		failed = &toldError{err}
	}
	switch err := s.Stop(c.signals.hurried); {
	case errors.Is(err, provisioner.ErrKilled):
		show.say(err.Error())
	case err != nil:
		show.fail(err)
		failed = errors.Join(failed, &toldError{err})
	}
	return failed
}

func allReady(s *provisioner.Supervisor) bool {
	return !slices.ContainsFunc(s.Status(), func(s provisioner.Status) bool { return s.State != provisioner.StateReady })
}
