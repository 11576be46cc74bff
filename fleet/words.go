package fleet

import (
	"context"
	"fmt"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
)

func idOf(cfg provisioner.ProvisionConfig) provisioner.ReplicaID {
	return provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}
}

// told is an error as results encode it.
func told(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// stopWaiting says that a caller has stopped waiting for what goes on.
func stopWaiting(ctx context.Context, what string) error {
	return fmt.Errorf("no longer waiting for %s, which goes on: %w", what, context.Cause(ctx))
}

// atOnce are the limits of a kill.
func atOnce() provisioner.StopOptions {
	return provisioner.StopOptions{DrainTimeout: new(time.Duration), Grace: new(time.Duration)}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
