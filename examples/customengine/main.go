// Command customengine adds an engine that the package does not know: Python's web server. Where a pools file can say all
// that there is to say of a server, the engine "custom" needs no program; see ../python.yaml.
//
//	go run -C examples/customengine . FOLDER PORT
//
// It is a module of its own, as yours will be.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	ep "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/examples/customengine/files"
	"github.com/llama-orch/engine-provisioner/settings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "customengine:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: customengine FOLDER PORT")
	}
	port, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("cannot use the port: %w", err)
	}
	engine, err := ep.New(ep.ProvisionConfig{
		PoolID: "files", ReplicaID: "r0", Engine: "files", Port: port, Model: settings.Model{ID: args[0]}, GPU: engine.GPUNone,
	}, ep.WithEngine(files.Engine{}))
	if err != nil {
		return err
	}
	if err := engine.Start(ctx); err != nil {
		return err
	}
	handoff, err := engine.WaitReady(ctx)
	if err == nil {
		fmt.Fprintln(out, handoff.URL, "by Python", handoff.EngineVersion)
		select {
		case <-ctx.Done():
		case <-engine.Done():
			err = engine.Err()
		}
	}
	return errors.Join(err, engine.Stop(context.Background()))
}
