package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/mailbox"
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
	File     string          `json:"file,omitempty"`     // the one that who asks has changed, with requestReload
}

type requestKind string

const (
	requestReset   requestKind = "reset"
	requestReload  requestKind = "reload"
	requestStop    requestKind = "stop"
	requestStart   requestKind = "start"
	requestRestart requestKind = "restart"
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
		return resetUnmanaged(state, named(replicas))
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

// resetUnmanaged forgets failures where no manager is at work.
func resetUnmanaged(dir string, replicas []string) ([]Answer, error) {
	var manager *provisioner.Manager
	_, err := os.Stat(dir)
	if err == nil {
		manager, err = provisioner.Manage(dir)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(replicas) == 0:
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer manager.Release()
	stems, err := state.List(dir, state.RestartsName)
	if err != nil {
		return nil, err
	}
	var done []Answer
	for _, stem := range stems {
		files := state.In(dir, stem)
		kept, err := readRestarts(files)
		name := kept.Pool + "/" + kept.Replica
		if err != nil || len(replicas) > 0 && !slices.Contains(replicas, name) {
			continue
		}
		err = forgive(files, kept)
		if err == nil && len(replicas) > 0 { // as a manager does it: one that was stopped is started only by its name
			err = files.Unhold()
		}
		if err != nil {
			return done, fmt.Errorf("cannot reset %s: %w", name, err)
		}
		done = append(done, Answer{Pool: kept.Pool, Replica: kept.Replica, Result: ResultForgotten})
	}
	for _, name := range replicas {
		if slices.ContainsFunc(done, func(a Answer) bool { return a.ID().String() == name }) {
			continue
		}
		id, err := provisioner.ParseReplicaID(name)
		if err != nil || !hasRun(dir, id) {
			return done, fmt.Errorf("cannot reset %q: %w; the state directory has nothing of such a replica", name, provisioner.ErrNotFound)
		}
		done = append(done, Answer{Pool: id.Pool, Replica: id.Replica, Result: ResultForgotten}) // it had no failures
	}
	return done, nil
}

// hasRun reports whether the state directory knows a replica.
func hasRun(dir string, id provisioner.ReplicaID) bool {
	all, _ := Statuses(dir) // what cannot be read of others does not matter
	return slices.ContainsFunc(all, func(s provisioner.Status) bool { return s.ID() == id })
}
