// Package repeat gives a run the lines that its engines write, for its own stdout: where that is what is kept, as of a container.
//
// The command's run calls it. It reads the engines' files, so that no engine waits for who reads the output, and writes nothing itself.
package repeat

import (
	"context"
	"sync"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/launchlog"
)

// Logs are those of the replicas of a run whose "logs" say that they are to be repeated.
type Logs struct {
	// Line gets each line, without control characters; several goroutines call it. Its error ends the replica's.
	Line func(id provisioner.ReplicaID, launch int64, line string) error
	// Note gets what is wrong, for people.
	Note func(text string)

	since    time.Time // what was written before, by what was adopted, has been told to others
	ctx      context.Context
	stop     context.CancelFunc
	followed map[provisioner.ReplicaID]bool
	work     sync.WaitGroup
}

// New makes one that repeats nothing yet.
func New(line func(provisioner.ReplicaID, int64, string) error, note func(string)) *Logs {
	l := &Logs{Line: line, Note: note, since: time.Now(), followed: map[provisioner.ReplicaID]bool{}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// Look begins with the logs that are there now, by where the replicas stand, and goes on with those of their replicas' next launches. One goroutine calls it.
func (l *Logs) Look(engines *fleet.Fleet, all []provisioner.Status) {
	for _, status := range all {
		id := status.ID()
		if status.Log == "" || l.followed[id] {
			continue
		}
		if config, err := engines.Config(id); err != nil || !config.Logs.Stdout {
			continue
		}
		lines := -1
		if status.StartedAt.Before(l.since) {
			lines = 0
		}
		p := launchlog.Printer{Write: func(launch int64, line string) error { return l.Line(id, launch, line) }}
		if p.Open(status.Log, lines) != nil {
			continue // it is looked for again
		}
		l.followed[id] = true
		l.work.Go(func() {
			defer p.Close()
			if err := p.Follow(l.ctx, func(int64) {}); err != nil {
				l.Note(id.String() + ": its output is no longer repeated: " + err.Error())
			}
		})
	}
}

// Close returns when the last lines are given, or nobody takes them for a second.
func (l *Logs) Close() {
	l.stop()
	given := make(chan struct{})
	go func() { l.work.Wait(); close(given) }()
	select {
	case <-given:
	case <-time.After(time.Second):
	}
}
