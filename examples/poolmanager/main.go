// Command poolmanager does what a node daemon does with the library: it keeps all replicas of a pools file alive, tells
// from the handoff files which of them are ready, and stops all of them on Ctrl-C. When it is killed, the engines go on,
// and the next run adopts them.
//
//	go run ./examples/poolmanager examples/multi-pool.yaml
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "poolmanager:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: poolmanager POOLS-FILE")
	}
	config, err := provisioner.LoadConfig(args[0])
	if err != nil {
		return err
	}
	replicas, err := config.Replicas("")
	if err != nil {
		return err
	}
	engines, err := fleet.Open(ctx, fleet.Options{}, replicas...)
	if err != nil {
		return err
	}
	// A router in another process would watch the same folder.
	watching, unwatch := context.WithCancel(context.Background())
	defer unwatch()
	handoffs, err := provisioner.WatchHandoffs(watching, engines.HandoffDir())
	if err != nil {
		return errors.Join(err, engines.Shutdown(context.Background()))
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		tell(engines.Events(watching), handoffs, out)
	}()

	// It returns when ctx ends, or when no replica is left: each was given up, or stopped by another command.
	err = engines.Wait(ctx)
	if ctx.Err() != nil {
		err = nil // Ctrl-C is no failure
	}
	// ErrKilled says that an engine had to be killed, which is a remark.
	if stopped := engines.Shutdown(context.Background()); stopped != nil && !errors.Is(stopped, provisioner.ErrKilled) {
		err = errors.Join(err, stopped)
	}
	<-told
	return err
}

// tell writes what happens until the fleet has ended.
func tell(events <-chan provisioner.Event, handoffs <-chan provisioner.HandoffEvent, out io.Writer) {
	for {
		select {
		case e, open := <-events:
			switch {
			case !open:
				return
			case e.Kind == provisioner.EventRestart:
				fmt.Fprintln(out, e.Message)
			}
		case e := <-handoffs:
			switch {
			case e.Err != nil:
				fmt.Fprintln(out, e.Err)
			case e.Removed:
				fmt.Fprintln(out, "gone", filepath.Base(e.Path))
			default:
				fmt.Fprintln(out, "ready", filepath.Base(e.Path), e.Handoff.URL, "launch", e.Handoff.Generation)
			}
		}
	}
}
