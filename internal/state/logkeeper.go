package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/logcap"
	"github.com/llama-orch/engine-provisioner/internal/wake"
)

// How often a log is looked at, and when more than its own size is.
const (
	logInterval  = time.Second
	floodRate    = 10 << 20               // bytes a second
	floodedEvery = 250 * time.Millisecond // instead of logInterval
	spaceEvery   = 10 * time.Second       // others fill a disk, too
	poolEvery    = 5 * time.Minute        // when the log has grown at all
	poolGrowth   = 1 << 20                // or when it has grown by this much
)

// When less than 1 GiB, or than 2 % if that is more, is free, a log may take 1 MiB. It takes a quarter more of free
// space for that to end.
const (
	lowSpace   = 1 << 30
	lowPercent = 2
	lowLogSize = 1 << 20

	leastShare = 64 << 10 // of one log in a pool that has too many
)

// LogLimits say how large logs may be, in bytes.
type LogLimits struct {
	Size     int64                    // of one
	PoolSize int64                    // of all of a pool
	Shown    func(bytes int64) string // a size for people
}

// LogKeeper holds a launch's log, and the logs of its pool, within their limits. The engine writes its log itself, and
// knows nothing of it: there is no pipe that could block or kill it.
type LogKeeper struct {
	files  Files
	pool   string
	path   string
	limits LogLimits
	space  func(path string) (free, total uint64, err error)
	note   func(string)
	noted  string

	file *os.File                 // the log, which may lose its name; nil when it could not be opened
	gone *atomic.Pointer[os.File] // file, once it has
	told string                   // its last name that is known to people; "" for none

	size    int64     // of the log, when it was last looked at
	growth  int64     // since the pool was last looked at
	pooled  time.Time // when that was
	measure time.Time // when free space was last looked at
	low     bool      // there was too little of it
}

// NewLogKeeper is a keeper for a launch of a replica of the pool. space tells how much of a file system is free; note is told what
// people should know.
func NewLogKeeper(
	files Files, pool string, limits LogLimits, space func(path string) (free, total uint64, err error), note func(string),
) *LogKeeper {
	return &LogKeeper{
		files: files, pool: pool, limits: limits, space: space, note: note, pooled: time.Now(), measure: time.Now(),
	}
}

// Run looks at the log until ctx ends, and then once more.
func (k *LogKeeper) Run(ctx context.Context) {
	k.growth = k.ownUsage() // what is there has never been looked at
	timer := time.NewTimer(0)
	defer timer.Stop()
	last, interval := time.Now(), logInterval
	for {
		timer.Reset(wake.Until(time.Now(), interval))
		select {
		case <-ctx.Done():
			k.look(time.Since(last))
			return
		case <-timer.C:
		}
		now := time.Now()
		interval = k.look(now.Sub(last))
		last = now
	}
}

// look is one look at the log, since after the last one. It tells when the next one is due.
func (k *LogKeeper) look(since time.Duration) time.Duration {
	info, err := k.own()
	if err != nil {
		return logInterval
	}
	grown := info.Size() - k.size
	k.size = info.Size()
	k.growth += max(0, grown)
	if limit := k.limit(); grown > 0 && k.size > limit {
		if file := k.removed(); file != nil {
			_, err := logcap.CapFile(file, limit)
			k.complain(err)
		} else {
			k.cap(k.path, limit)
		}
		if info, err := k.own(); err == nil {
			k.size = info.Size()
		}
	}
	k.lookAround()
	if since > 0 && float64(grown)/since.Seconds() > floodRate {
		return floodedEvery
	}
	return logInterval
}

// lookAround looks at free space and at the pool's other logs, when that is due.
func (k *LogKeeper) lookAround() {
	now := time.Now()
	much := k.growth >= poolGrowth
	if much || now.Sub(k.measure) >= spaceEvery {
		k.measure = now
		if k.spaceLow() {
			much = true
		}
	}
	if much || k.growth > 0 && now.Sub(k.pooled) >= poolEvery {
		k.growth, k.pooled = 0, now
		k.capPool()
	}
}

// MakeRoom is for a start on a disk that logs have filled: without a record nothing can be started.
func (k *LogKeeper) MakeRoom() {
	if k.spaceLow() {
		k.capPool()
	}
}

func (k *LogKeeper) limit() int64 {
	if k.low {
		return min(k.limits.Size, lowLogSize)
	}
	return k.limits.Size
}

// spaceLow finds out whether there is too little free space, and tells when that begins.
func (k *LogKeeper) spaceLow() bool {
	free, total, err := k.space(k.files.State)
	if err != nil {
		return k.low
	}
	want := max(lowSpace, total/100*lowPercent)
	if k.low {
		want += want / 4
	}
	began := free < want && !k.low
	k.low = free < want
	if began {
		k.note(fmt.Sprintf("the file system of %q has only %d MiB left: logs are cut to %s each, and those of earlier launches are removed",
			k.files.State, free>>20, k.limits.Shown(min(k.limits.Size, lowLogSize))))
	}
	return k.low
}

func (k *LogKeeper) cap(path string, limit int64) {
	_, err := logcap.Cap(path, limit)
	k.complain(err)
}

// complain notes what goes wrong, once: the next look will find the same.
func (k *LogKeeper) complain(err error) {
	if err == nil || errors.Is(err, fs.ErrNotExist) || err.Error() == k.noted {
		return
	}
	k.noted = err.Error()
	k.note(k.noted)
}

// logKind is what a log is worth, the least first.
type logKind int

const (
	logOld    logKind = iota // of a launch that ended before the last one
	logLast                  // of a replica's last launch, which was stopped
	logFailed                // of a replica's last launch that failed
	logLive                  // of a launch that may be running
)

type logFile struct {
	path   string
	stem   string // the replica's
	number int64
	used   int64
	age    time.Time
	kind   logKind
}

// capPool holds the pool's logs within their limits: those of launches that have ended are removed, the oldest first
// and failed ones last, and if that is not enough the rest is cut to equal shares.
func (k *LogKeeper) capPool() {
	logs := k.poolLogs("")
	total, large := int64(0), false
	for _, f := range logs {
		total += f.used
		large = large || f.used > k.limit()
	}
	if total <= k.limits.PoolSize && !large && !k.low {
		return
	}
	logs, total = k.judge(logs)
	slices.SortFunc(logs, func(a, b logFile) int { return cmp.Or(cmp.Compare(a.kind, b.kind), a.age.Compare(b.age)) })
	rest := logs[:0]
	for _, f := range logs {
		if f.kind == logLive || total <= k.limits.PoolSize && (!k.low || f.kind != logOld) {
			rest = append(rest, f)
			continue
		}
		if err := atomicfile.Remove(f.path); err != nil {
			k.complain(fmt.Errorf("cannot remove an old log: %w", err))
			continue
		}
		total -= f.used
	}
	limit := k.limit()
	if total > k.limits.PoolSize {
		limit = min(limit, max(leastShare, k.limits.PoolSize/int64(len(rest))))
	}
	for _, f := range rest {
		if f.used > limit {
			k.cap(f.path, limit)
		}
	}
}

// poolLogs lists the logs of replicas whose name is like the pool's, or of the one replica of stem.
func (k *LogKeeper) poolLogs(stem string) []logFile {
	stems := []string{stem}
	if stem == "" {
		entries, err := os.ReadDir(k.files.State)
		k.complain(err)
		stems = stems[:0]
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), k.pool+"-") {
				stems = append(stems, entry.Name())
			}
		}
	}
	var logs []logFile
	for _, stem := range stems {
		files := In(k.files.State, stem)
		numbers, _ := files.LogNumbers() // a folder without logs is none of a replica
		for _, n := range numbers {
			if info, err := os.Lstat(files.Log(n)); err == nil && info.Mode().IsRegular() {
				logs = append(logs, logFile{
					path: files.Log(n), stem: stem, number: n, used: logcap.Usage(info), age: info.ModTime(),
				})
			}
		}
	}
	return logs
}

func (k *LogKeeper) ownUsage() int64 {
	total := int64(0)
	for _, f := range k.poolLogs(k.files.Stem) {
		total += f.used
	}
	return total
}

// judge tells the kinds of logs, and how much they take. Those of another pool are left out: the pools "a" and "a-b"
// have names that begin alike.
func (k *LogKeeper) judge(logs []logFile) (ours []logFile, total int64) {
	heads := map[string]Head{}
	for _, f := range logs {
		head, known := heads[f.stem]
		if !known {
			head, _ = In(k.files.State, f.stem).Head()
			heads[f.stem] = head
		}
		if head.Pool != k.pool {
			continue
		}
		switch {
		case f.number > head.Generation, f.number == head.Generation && !head.Over():
			f.kind = logLive
		case f.number == head.LastFailed && !head.Failed(), f.number == head.Generation && head.Failed():
			f.kind = logFailed
		case f.number == head.Generation:
			f.kind = logLast
		}
		ours = append(ours, f)
		total += f.used
	}
	return ours, total
}
