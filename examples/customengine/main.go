// Command customengine adds an engine that the package does not know: Python's web server, with a folder for a model.
//
//	go run ./examples/customengine FOLDER PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// fileServer describes "python3 -m http.server". An Engine is data: it says what to run and where to ask, and does
// neither. So it needs no mock and no process to be tested; see main_test.go.
type fileServer struct{}

func (fileServer) Name() string { return "files" }

func (fileServer) Program(provisioner.ProvisionConfig) provisioner.Program {
	return provisioner.Program{
		Command:     "python3",
		VersionArgs: []string{"--version"},
		ParseVersion: func(output string) (version string, build int, err error) {
			version, ok := strings.CutPrefix(strings.TrimSpace(output), "Python ")
			if !ok {
				return "", 0, errors.New("it does not call itself Python")
			}
			return version, 0, nil
		},
	}
}

func (fileServer) Launch(cfg provisioner.ProvisionConfig, host provisioner.Host) (provisioner.LaunchSpec, error) {
	if cfg.APIKey != nil {
		return provisioner.LaunchSpec{}, &provisioner.ConfigError{Problems: []provisioner.Problem{
			{Key: "api_key", Message: "a file server cannot ask for a key; remove it"},
		}}
	}
	own := func(key string, args ...string) provisioner.Flag {
		return provisioner.Flag{Args: args, Origin: provisioner.OriginProvisioner, Key: key}
	}
	spec := provisioner.LaunchSpec{
		Flags: []provisioner.Flag{
			own("", "-m", "http.server"),
			own("host", "--bind", cfg.Host),
			own("model.id", "--directory", host.ModelPath),
			own("port", strconv.Itoa(cfg.Port)),
		},
		Health: "/", // 200 once it listens
		Grace:  2 * time.Second,
	}
	for i, f := range cfg.Flags {
		spec.Flags = append(spec.Flags, provisioner.Flag{
			Args: []string{f}, Origin: provisioner.OriginConfig, Key: fmt.Sprintf("flags[%d]", i),
		})
	}
	return spec, nil
}

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
	engine, err := provisioner.New(provisioner.ProvisionConfig{
		PoolID: "files", ReplicaID: "r0", Engine: "files", Port: port,
		Model: provisioner.ModelConfig{ID: args[0]}, GPU: provisioner.GPUNone,
	}, provisioner.WithEngine(fileServer{}))
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
