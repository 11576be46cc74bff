package main

import (
	"context"
	"errors"
	"fmt"
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

	manager, err := newNotifier()
	if err != nil {
		show.say("note: " + err.Error())
	}
	defer manager.close()
	err = s.WaitReady(ctx)
	ready := err == nil
	if ready {
		manager.ready(fmt.Sprintf("%d replicas supervised", len(configs)))
		err = await(manager, func() error { return s.Wait(ctx) })
	}
	manager.stopping()
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

// await calls wait, and tells the service manager meanwhile that this program lives.
func await(manager *notifier, wait func() error) error {
	waited := make(chan error, 1)
	go func() { waited <- wait() }()
	for {
		select {
		case err := <-waited:
			return err
		case <-manager.due():
			manager.alive()
		}
	}
}

func allReady(s *provisioner.Supervisor) bool {
	return !slices.ContainsFunc(s.Status(), func(s provisioner.Status) bool { return s.State != provisioner.StateReady })
}
