package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/wake"
)

// inbox takes the requests that other programs put to a fleet.
type inbox struct {
	fleet  *Fleet
	dir    string
	reload func() ([]provisioner.ProvisionConfig, error) // nil: it cannot be asked for
	keeper keeper
	work   sync.WaitGroup
	leave  context.CancelFunc
}

// newInbox puts away what was asked of an earlier manager: what it has taken, its answers, and requests that nobody waits for
// any more. A request younger than that is answered: whoever has put it may have seen this manager, which has the lock by
// now, or waits for whoever comes.
func newInbox(f *Fleet, reload func() ([]provisioner.ProvisionConfig, error)) *inbox {
	b := &inbox{fleet: f, dir: filepath.Join(f.state, state.RequestsName), reload: reload, keeper: keeper{fleet: f}}
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
		if panicked := caught.Do(b.fleet.log, "a request", func() { all.Answers, err = b.answer(r) }); panicked != nil {
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
		b.fleet.log.Warn("cannot answer a request", "error", err)
	}
}

// answer does what is asked for. It takes no context: when the fleet ends, so do its replicas, and who waits for
// them.
func (b *inbox) answer(r request) ([]Answer, error) {
	ctx := context.Background()
	switch {
	case r.Kind == requestReset:
		kind := orderStart // one that was stopped is started only by its name
		if len(r.Replicas) == 0 {
			kind = orderReset
		}
		return b.fleet.each(r.Replicas, string(requestReset), func(r *replica) error { return r.ask(ctx, order{kind: kind}) })
	case r.Kind == requestStop:
		by := r.By
		return b.fleet.each(r.Replicas, string(provisioner.StateStopped), func(r *replica) error { return r.ask(ctx, order{kind: orderStop, by: by}) })
	case r.Kind == requestReload && b.reload == nil:
		return nil, errors.New("this manager has no configuration to read again; it is a program that calls Reload itself")
	case r.Kind == requestReload:
		cfgs, err := b.reload()
		if err != nil {
			return nil, err
		}
		results, err := b.fleet.Apply(ctx, cfgs)
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
func (f *Fleet) each(names []string, result string, do func(r *replica) error) ([]Answer, error) {
	replicas := f.all()
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
