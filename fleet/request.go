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
	"strings"
	"sync"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/caller"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/wake"
)

// request is what another program asks of the manager of a state directory. It travels by files in
// <state>/requests: <id>.json is the question, which the manager renames to <id>.taken, and <id>.answer the answer.
// A signal would need a process number from a file, which can be a stranger's by now; a socket's path must be short.
type request struct {
	Kind     requestKind          `json:"kind"`
	Replicas []string             `json:"replicas,omitempty"` // as pool/replica; none: all
	By       *provisioner.Stopper `json:"by,omitempty"`       // who asks, with requestStop
}

type requestKind string

const (
	requestReset  requestKind = "reset"
	requestReload requestKind = "reload"
	requestStop   requestKind = "stop"
)

// Answer is what became of a replica that a request was about.
type Answer struct {
	Pool    string `json:"pool"`
	Replica string `json:"replica"`
	Result  string `json:"result"`          // "reset", "stopped", "failed", or a ReloadResult
	Error   string `json:"error,omitempty"` // why it failed; "" when it did not
}

// answers is the content of an answer's file.
type answers struct {
	Answers []Answer `json:"answers,omitempty"`
	Error   string   `json:"error,omitempty"`
}

const (
	requestExt, takenExt, answerExt = ".json", ".taken", ".answer"

	requestPeriod   = time.Second      // between the manager's looks
	requestPatience = 15 * time.Second // until a request that is not taken is withdrawn
	answerPatience  = time.Hour        // until an answer is removed that nobody has fetched: who asked was interrupted
)

// RequestReset has the manager of a state directory ("" means .runtime) forget the failures of replicas, named as
// "pool/replica", and start them at once, as [Fleet.Reset] does. None means all but those that were stopped by a
// command. When there is no manager, the next one starts without memory of failures.
func RequestReset(ctx context.Context, stateDir string, replicas ...string) ([]Answer, error) {
	state, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	answered, err := request{Kind: requestReset, Replicas: replicas}.put(ctx, state)
	if errors.Is(err, provisioner.ErrNotManaged) {
		return resetUnmanaged(state, replicas)
	}
	return answered, err
}

// RequestReload has the manager of a state directory ("" means .runtime) read its configuration again and bring its
// replicas in line with it, as [Fleet.Apply] does. It returns when that is done. ctx bounds the wait alone. The error is
// ErrNotManaged when there is no manager.
func RequestReload(ctx context.Context, stateDir string) ([]Answer, error) {
	state, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	return request{Kind: requestReload}.put(ctx, state)
}

// RequestStop has the manager of a state directory ("" means .runtime) stop replicas, named as "pool/replica", as
// [Fleet.StopReplica] does; none means all. It also reaches those that run no engine, because they wait for their next try. The
// error is ErrNotManaged when there is no manager, and ErrNotFound when it does not look after one of them.
func RequestStop(ctx context.Context, stateDir string, replicas ...string) ([]Answer, error) {
	state, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	return request{Kind: requestStop, Replicas: replicas, By: new(provisioner.Stopper(caller.This()))}.put(ctx, state)
}

// put puts a request and waits for its answer.
func (r request) put(ctx context.Context, dir string) ([]Answer, error) {
	if !state.Managed(dir) {
		return nil, fmt.Errorf("cannot ask for a %s in %q: %w", r.Kind, dir, provisioner.ErrNotManaged)
	}
	stem := filepath.Join(dir, state.RequestsName, proc.NewMark())
	data, err := json.Marshal(r)
	if err == nil {
		err = atomicfile.Write(stem+requestExt, data)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot ask for a %s: %w", r.Kind, err)
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; {
		there := state.Managed(dir) // first: a manager that ends answers before it lets go
		data, err := state.Read(stem + answerExt)
		switch {
		case err == nil:
			_ = os.Remove(stem + answerExt) // else the next manager does it
			return readAnswers(data)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("cannot read the answer: %w", err)
		case !there:
			_ = os.Remove(stem + requestExt)
			return nil, fmt.Errorf("the manager ended before it had answered: %w", provisioner.ErrNotManaged)
		}
		select {
		case <-ctx.Done():
			_ = os.Remove(stem + requestExt)
			return nil, context.Cause(ctx)
		case <-ticker.C:
		}
		switch late := time.Since(began) > requestPatience; {
		case late && os.Remove(stem+requestExt) == nil:
			return nil, fmt.Errorf("cannot ask for a %s: the manager does not take requests; it is suspended, hangs, or is of another version", r.Kind)
		case late && !access.Exists(stem+takenExt) && !access.Exists(stem+answerExt): // in this order: the one goes when the other is there
			return nil, fmt.Errorf("asked for a %s, but the manager could not write the answer; see its log and the free space", r.Kind)
		}
	}
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
		done = append(done, Answer{Pool: kept.Pool, Replica: kept.Replica, Result: string(requestReset)})
	}
	for _, name := range replicas {
		if !slices.ContainsFunc(done, func(a Answer) bool { return a.Pool+"/"+a.Replica == name }) {
			return done, fmt.Errorf("cannot reset %q: %w; the state directory has nothing of such a replica", name, provisioner.ErrNotFound)
		}
	}
	return done, nil
}

// inbox takes the requests that other programs put to a supervisor.
type inbox struct {
	s      *Fleet
	dir    string
	reload func() ([]provisioner.ProvisionConfig, error) // nil: it cannot be asked for
	keeper keeper
	work   sync.WaitGroup
	leave  context.CancelFunc
}

// newInbox puts away what was asked of an earlier manager: what it has taken, its answers, and requests that nobody waits for
// any more. A request younger than that is answered: whoever has put it may have seen this manager, which has the lock by
// now, or waits for whoever comes.
func newInbox(s *Fleet, reload func() ([]provisioner.ProvisionConfig, error)) *inbox {
	b := &inbox{s: s, dir: filepath.Join(s.state, state.RequestsName), reload: reload, keeper: keeper{s: s}}
	entries, _ := os.ReadDir(b.dir)
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && filepath.Ext(entry.Name()) == requestExt && time.Since(info.ModTime()) < requestPatience {
			continue
		}
		_ = os.Remove(filepath.Join(b.dir, entry.Name()))
	}
	return b
}

func (b *inbox) start() {
	ctx, leave := context.WithCancel(context.Background())
	b.leave = leave
	b.work.Go(func() { b.run(ctx) })
}

func (b *inbox) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(wake.Until(time.Now(), requestPeriod))
		}
		entries, _ := os.ReadDir(b.dir) // whoever has removed the folder asks for nothing
		for _, entry := range entries {
			path := filepath.Join(b.dir, entry.Name())
			switch filepath.Ext(path) {
			case requestExt:
				b.work.Go(func() { b.take(strings.TrimSuffix(path, requestExt)) })
			case answerExt:
				if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > answerPatience {
					_ = os.Remove(path)
				}
			}
		}
		b.keeper.look()
	}
}

// take answers one request.
func (b *inbox) take(stem string) {
	if err := os.Rename(stem+requestExt, stem+takenExt); err != nil {
		return // it was withdrawn
	}
	var r request
	data, err := state.Read(stem + takenExt)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	var all answers
	if err == nil {
		if panicked := caught.Do(b.s.log, "a request", func() { all.Answers, err = b.answer(r) }); panicked != nil {
			err = panicked
		}
	}
	if err != nil {
		all.Error = err.Error()
	}
	if data, err = json.Marshal(all); err == nil {
		err = atomicfile.Write(stem+answerExt, data)
	}
	if err = errors.Join(err, os.Remove(stem+takenExt)); err != nil {
		b.s.log.Warn("cannot answer a request", "error", err)
	}
}

// answer does what is asked for. It takes no context: when the supervisor ends, so do its replicas, and who waits for
// them.
func (b *inbox) answer(r request) ([]Answer, error) {
	ctx := context.Background()
	switch {
	case r.Kind == requestReset:
		return b.s.each(r.Replicas, string(requestReset), func(r *replica) error { return r.ask(ctx, order{kind: orderReset}) })
	case r.Kind == requestStop:
		by := r.By
		return b.s.each(r.Replicas, string(provisioner.StateStopped), func(r *replica) error { return r.ask(ctx, order{kind: orderStop, by: by}) })
	case r.Kind == requestReload && b.reload == nil:
		return nil, errors.New("this manager has no configuration to read again; it is a program that calls Reload itself")
	case r.Kind == requestReload:
		cfgs, err := b.reload()
		if err != nil {
			return nil, err
		}
		results, err := b.s.Apply(ctx, cfgs)
		var all []Answer
		for _, done := range results {
			all = append(all, Answer{Pool: done.Pool, Replica: done.Replica, Result: string(done.Result), Error: told(done.Err)})
		}
		return all, err
	default:
		return nil, fmt.Errorf("this manager knows no request %q", r.Kind)
	}
}

// each does something to the named replicas, or to all of which nobody has said that they shall not run.
func (s *Fleet) each(names []string, result string, do func(r *replica) error) ([]Answer, error) {
	replicas := s.all()
	for _, name := range names {
		if !slices.ContainsFunc(replicas, func(r *replica) bool { return r.name == name }) {
			return nil, fmt.Errorf("%w: no replica %q is supervised", provisioner.ErrNotFound, name)
		}
	}
	var chosen []*replica
	for _, r := range replicas {
		if slices.Contains(names, r.name) || len(names) == 0 && r.history().Phase != provisioner.PhaseStopped {
			chosen = append(chosen, r)
		}
	}
	all := make([]Answer, len(chosen))
	var work sync.WaitGroup
	for i, r := range chosen {
		work.Go(func() {
			cfg := r.config()
			all[i] = Answer{Pool: cfg.PoolID, Replica: cfg.ReplicaID, Result: result}
			if err := do(r); err != nil {
				all[i].Result, all[i].Error = string(ReloadFailed), err.Error()
			}
		})
	}
	work.Wait()
	return all, nil
}
