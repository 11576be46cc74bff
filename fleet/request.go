package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/mailbox"
	"github.com/llama-orch/engine-provisioner/fleet/internal/unmanaged"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/caller"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// ErrNotManaged says that no fleet is at work in a state directory.
var ErrNotManaged = mailbox.ErrNotManaged

// request is what another program asks of the manager of a state directory.
type request struct {
	Kind     requestKind     `json:"kind"`
	Replicas []string        `json:"replicas,omitempty"` // as pool/replica; none: all
	By       *report.Stopper `json:"by,omitempty"`       // who asks, with requestStop
	Hold     *hold.Hold      `json:"hold,omitempty"`     // with requestHold
	File     string          `json:"file,omitempty"`     // the one that who asks has changed, with requestReload
}

type requestKind string

const (
	requestReset   requestKind = "reset"
	requestReload  requestKind = "reload"
	requestStop    requestKind = "stop"
	requestStart   requestKind = "start"
	requestRestart requestKind = "restart"
	requestHold    requestKind = "hold"
	requestUnhold  requestKind = "unhold"
)

// Answer is what became of a replica that a request was about.
type Answer struct {
	Pool    string `json:"pool"`
	Replica string `json:"replica"`
	Result  string `json:"result"`          // one of the constants, or a ReloadResult
	Error   string `json:"error,omitempty"` // why it failed; "" when it did not
}

// The results of requests beside those of a reload.
const (
	ResultReset     = "reset"     // its failures are forgotten, and it is started where it waits or was given up
	ResultForgotten = "forgotten" // its failures are forgotten, and nothing is started: there is no manager
	ResultStopped   = "stopped"   // it is stopped, and left so
	ResultReady     = "ready"     // it was started, or ran already, and is ready
	ResultRestarted = "restarted" // another engine is ready with the same configuration
	ResultHeld      = "held"      // it is stopped, and kept so
	ResultUnheld    = "unheld"    // it is not held any more
	ResultFailed    = "failed"    // see Error
)

// ID returns the replica's name.
func (a Answer) ID() provisioner.ReplicaID {
	return provisioner.ReplicaID{Pool: a.Pool, Replica: a.Replica}
}

// answers is the content of an answer's file.
type answers struct {
	Answers []Answer `json:"answers,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// RequestReset has the manager of a state directory ("" means .runtime) forget the failures of replicas, and start
// them at once, as [Fleet.Start] does. None means all but those that were stopped by a
// command. When there is no manager, the next one starts without memory of failures, and the result is ResultForgotten.
func RequestReset(ctx context.Context, stateDir string, replicas ...provisioner.ReplicaID) ([]Answer, error) {
	state, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	answered, err := request{Kind: requestReset, Replicas: named(replicas)}.put(ctx, state)
	if errors.Is(err, ErrNotManaged) {
		return doneAnswers(ResultForgotten)(unmanaged.Reset(state, named(replicas)))
	}
	return answered, err
}

// RequestReload has the manager of a state directory ("" means .runtime) read its configuration again and bring its
// replicas in line with it, as [Fleet.Apply] does. It returns when that is done. ctx bounds the wait alone. file is the one
// that the caller has changed; "" stands for whatever the manager reads. Where that is another file nothing is done, and the
// error names it. The error is ErrNotManaged when there is no manager.
func RequestReload(ctx context.Context, stateDir, file string) ([]Answer, error) {
	state, err := state.Dir(stateDir)
	if err == nil && file != "" {
		file, err = filepath.Abs(file)
	}
	if err != nil {
		return nil, err
	}
	return request{Kind: requestReload, File: file}.put(ctx, state)
}

// RequestStart has the manager of a state directory ("" means .runtime) start replicas, as [Fleet.Start] does, also those
// that were stopped, and returns when each of them is ready or has failed; none means all. ctx bounds the wait alone. The
// error is ErrNotManaged when there is no manager, and ErrNotFound when it does not look after one of them.
func RequestStart(ctx context.Context, stateDir string, replicas ...provisioner.ReplicaID) ([]Answer, error) {
	state, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	return request{Kind: requestStart, Replicas: named(replicas)}.put(ctx, state)
}

// RequestRestart has the manager of a state directory ("" means .runtime) restart replicas, one after the other, as
// [Fleet.Restart] does; none means all that were not stopped by a command. ctx bounds the wait alone. The errors are those
// of RequestStart.
func RequestRestart(ctx context.Context, stateDir string, replicas ...provisioner.ReplicaID) ([]Answer, error) {
	state, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	return request{Kind: requestRestart, Replicas: named(replicas)}.put(ctx, state)
}

// RequestStop has the manager of a state directory ("" means .runtime) stop replicas, as [Fleet.Stop] does; none means all. It also reaches those that run no engine, because they wait for their next try. The
// error is ErrNotManaged when there is no manager, and ErrNotFound when it does not look after one of them.
func RequestStop(ctx context.Context, stateDir string, replicas ...provisioner.ReplicaID) ([]Answer, error) {
	state, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	return request{Kind: requestStop, Replicas: named(replicas), By: new(report.Stopper(caller.This()))}.put(ctx, state)
}

// RequestHold has the manager of a state directory ("" means .runtime) hold replicas, as [Fleet.Hold] does; none means all, as
// [Fleet.HoldAll]. When there is no manager, engines that run are stopped here, as [provisioner.EngineProvisioner.Stop] does, and
// the next manager finds the hold; opts are for these stops. The error is ErrNotFound when there is nothing of one of them.
func RequestHold(ctx context.Context, stateDir string, h hold.Hold, replicas []provisioner.ReplicaID, opts ...provisioner.Option) ([]Answer, error) {
	dir, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	answered, err := request{Kind: requestHold, Replicas: named(replicas), Hold: &h}.put(ctx, dir)
	if errors.Is(err, ErrNotManaged) {
		return doneAnswers(ResultHeld)(unmanaged.Hold(ctx, dir, h, replicas, opts))
	}
	return answered, err
}

// RequestUnhold has the manager of a state directory ("" means .runtime) end the holds of replicas, as [Fleet.Unhold] does; none
// means that of all, as [Fleet.UnholdAll]. When there is no manager, the next one starts them. The errors are as those of
// RequestHold.
func RequestUnhold(ctx context.Context, stateDir string, replicas ...provisioner.ReplicaID) ([]Answer, error) {
	dir, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	answered, err := request{Kind: requestUnhold, Replicas: named(replicas)}.put(ctx, dir)
	if errors.Is(err, ErrNotManaged) {
		return doneAnswers(ResultUnheld)(unmanaged.Unhold(dir, replicas))
	}
	return answered, err
}

// named are replicas as requests name them.
func named(replicas []provisioner.ReplicaID) []string {
	var names []string
	for _, id := range replicas {
		names = append(names, id.String())
	}
	return names
}

// put puts a request and waits for its answer.
func (r request) put(ctx context.Context, dir string) ([]Answer, error) {
	data, err := json.Marshal(r)
	if err == nil {
		data, err = mailbox.Ask(ctx, dir, string(r.Kind), data)
	}
	if err != nil {
		return nil, err
	}
	return readAnswers(data)
}

func readAnswers(data []byte) ([]Answer, error) {
	var all answers
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("cannot read the answer: %w", err)
	}
	if all.Error != "" {
		return all.Answers, errors.New(all.Error)
	}
	return all.Answers, nil
}

// doneAnswers makes answers of what was done without a manager.
func doneAnswers(result string) func([]unmanaged.Done, error) ([]Answer, error) {
	return func(done []unmanaged.Done, err error) ([]Answer, error) {
		var all []Answer
		for _, d := range done {
			a := Answer{Pool: d.ID.Pool, Replica: d.ID.Replica, Result: result}
			if d.Err != nil {
				a.Result, a.Error = ResultFailed, d.Err.Error()
			}
			all = append(all, a)
		}
		return all, err
	}
}
