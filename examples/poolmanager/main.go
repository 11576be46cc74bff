// Command poolmanager does what a node daemon does with the library: it keeps all replicas of a pools file running,
// tells from the handoff files which of them are ready, and stops all of them on Ctrl-C.
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
	"sync"
	"syscall"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
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
	// A router in another process would watch the same folder.
	watching, unwatch := context.WithCancel(context.Background())
	defer unwatch()
	handoffs, err := provisioner.WatchHandoffs(watching, filepath.Join(replicas[0].StateDir, "engines"))
	if err != nil {
		return err
	}

	trouble := make(chan error)
	var all sync.WaitGroup
	for _, cfg := range replicas {
		all.Go(func() { keep(ctx, cfg, trouble) })
	}
	go func() { all.Wait(); unwatch() }()
	for {
		select {
		case err := <-trouble:
			fmt.Fprintln(out, err)
		case e, open := <-handoffs:
			switch {
			case !open && ctx.Err() == nil:
				return errors.New("no replica is left")
			case !open:
				return nil
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

// pause lies between two launches of a replica.
const pause = time.Second

// keep runs one replica until ctx ends. An EngineProvisioner is one launch, so each try gets a new one.
func keep(ctx context.Context, cfg provisioner.ProvisionConfig, trouble chan<- error) {
	for {
		err := launch(ctx, cfg)
		if err != nil && !errors.Is(err, context.Canceled) {
			trouble <- err
		}
		if !canRetry(err) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// launch runs a replica once, to its end. It returns nil when the engine was stopped, here or by another command.
func launch(ctx context.Context, cfg provisioner.ProvisionConfig) error {
	engine, err := provisioner.New(cfg)
	if err != nil {
		return err
	}
	if err := engine.Start(ctx); err != nil {
		return err
	}
	if _, err = engine.WaitReady(ctx); err == nil {
		select {
		case <-ctx.Done():
		case <-engine.Done():
			err = engine.Err()
		}
	}
	if stopped := engine.Stop(context.Background()); stopped != nil && !errors.Is(stopped, provisioner.ErrKilled) {
		return errors.Join(err, stopped)
	}
	return err
}

// canRetry says whether the same launch may succeed the next time.
func canRetry(err error) bool {
	var start *provisioner.StartError
	var exit *provisioner.ExitError
	var notReady *provisioner.NotReadyError
	switch {
	case errors.As(err, &start):
		return start.Retry
	case errors.As(err, &exit):
		return exit.Retry
	case errors.As(err, &notReady):
		return notReady.Retry
	}
	return false
}
