// Command basic starts the first replica of a pools file, prints its URL when it is ready, and stops it on Ctrl-C.
//
//	go run ./examples/basic examples/basic.yaml
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	provisioner "github.com/llama-orch/engine-provisioner"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "basic:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: basic POOLS-FILE")
	}
	config, err := provisioner.LoadConfig(args[0])
	if err != nil {
		return err
	}
	replicas, err := config.Replicas("") // "": of all pools
	if err != nil {
		return err
	}
	engine, err := provisioner.New(replicas[0])
	if err != nil {
		return err
	}
	if err := engine.Start(ctx); err != nil {
		return err
	}
	handoff, err := engine.WaitReady(ctx)
	if err == nil {
		fmt.Fprintln(out, handoff.URL)
		select {
		case <-ctx.Done():
		case <-engine.Done(): // it died, or another command stopped it
			err = engine.Err()
		}
	}
	// ctx has ended by now, and a stop takes as long as it takes. Of an engine that is gone it only says that it is.
	return errors.Join(err, engine.Stop(context.Background()))
}
