// Package census has the one view of this machine's processes that all launches of a program share: a look at /proc costs
// a few microseconds for each process, and serves all who asked before it began.
//
// Package proc, which knows what belongs to a launch, is who asks. A census starts nothing, ends nobody, has no goroutine,
// and looks only when it is asked.
//
// What is asked for afresh is answered by a look that began after the question, so no proof is weaker than by a look of
// one's own. /proc/<pid>/task/<tid>/children would be shorter, but is told in full only of what is stopped.
package census

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/onelook"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// Census is what is known of the processes of this machine. It is safe for concurrent use.
type Census struct {
	variable string // in environments, by which processes are found

	looks  onelook.Look[struct{}]
	asking sync.Mutex // for the next two
	// lows are the starts, in ticks since boot, of the oldest processes that were asked for of late.
	lows   [2]uint64
	turned time.Time

	mu    sync.RWMutex // for what follows, which a look changes
	began time.Time    // when the last look did
	took  time.Duration
	round uint64
	// floor is the start of the oldest processes that were read: nearly all processes of a machine are older than the launches
	// of a program, and belong to none.
	floor    uint64
	reader   procfs.Reader
	all      map[int]*process
	sessions index[int]
	groups   index[int]
	children index[int]
	marks    index[string]
}

// process is one that was seen.
type process struct {
	procfs.Stat
	inode   uint64   // of its folder
	seen    uint64   // the last round that listed it
	read    uint64   // the last round that read it: an old one is known, and left unread
	marks   []string // values of the variable, as its environment was when it was at envAt
	envAt   [2]uint64
	envRead bool
}

// index finds processes by what they have in common. Its slices are used again in the next round.
type index[K comparable] map[K][]*process

func (x index[K]) empty() {
	for k, list := range x {
		if len(list) == 0 {
			delete(x, k)
			continue
		}
		clear(list)
		x[k] = list[:0]
	}
}

// New makes a census that finds processes by a variable in their environment.
func New(variable string) *Census {
	return &Census{
		variable: variable, lows: [2]uint64{math.MaxUint64, math.MaxUint64},
		all: map[int]*process{}, sessions: index[int]{}, groups: index[int]{}, children: index[int]{}, marks: index[string]{},
	}
}

const (
	// goodFor is how long a look is good for who does not ask for a fresh one.
	goodFor = 10 * time.Millisecond
	// share is how much of the time may go into looks that are not asked for afresh: the longer they take, since the machine has
	// many processes or many engines load, the rarer they get, for all together.
	share = 50
	// stalest is how old a look gets so.
	stalest = time.Second
	// lowsLast is how long it is remembered that older processes were asked for.
	lowsLast = 10 * time.Second
)

// Recent is how old an answer may be for who has no need of a fresh one.
func (c *Census) Recent() time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return time.Now().Add(-min(max(goodFor, share*c.took), stalest))
}

// Identity is a process by its number and its start, in ticks since boot.
type Identity struct {
	PID        int
	StartTicks uint64
}

// Family is how a family of processes is told from all others.
type Family struct {
	Since  uint64     // no member began earlier, in ticks since boot
	Leader Identity   // its session and group belong, as long as it is there, be it dead: afterwards the number can be a stranger's
	Mark   string     // of the variable; whoever carries it belongs, and "" is none
	Known  []Identity // who has belonged, and so does for good
	Listed []int      // who belongs by its number, such as those of a cgroup
	Not    int        // a process that is never told of, such as this program
}

// Members are the processes of a family, by a look that began after asked, with the children of all of them. The dead that
// wait to be reaped are left out. led says that the leader is there.
func (c *Census) Members(f Family, asked time.Time) (members []procfs.Stat, led bool, err error) {
	err = c.view(f.Since, asked, func() { members, led = c.members(f) })
	return members, led, err
}

// members is called with mu held.
func (c *Census) members(f Family) (members []procfs.Stat, led bool) {
	var found []*process
	add := func(p *process) {
		if p != nil && p.read == c.round && p.PID > 1 && p.PID != f.Not && p.StartTicks >= f.Since && !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	addAll := func(list []*process) {
		for _, p := range list {
			add(p)
		}
	}
	if led = c.there(f.Leader); led {
		addAll(c.sessions[f.Leader.PID])
		addAll(c.groups[f.Leader.PID])
	}
	if f.Mark != "" {
		addAll(c.marks[f.Mark])
	}
	for _, id := range f.Known {
		if c.there(id) {
			add(c.all[id.PID])
		}
	}
	for _, pid := range f.Listed {
		add(c.all[pid])
	}
	for i := 0; i < len(found); i++ { // which grows
		addAll(c.children[found[i].PID])
	}
	for _, p := range found {
		if !p.Dead() {
			members = append(members, p.Stat)
		}
	}
	return members, led
}

// Led are the processes in the session or the group that a process leads or has led, since a start in ticks since boot.
func (c *Census) Led(leader int, since uint64, asked time.Time) (led []procfs.Stat, err error) {
	err = c.view(since, asked, func() {
		session := c.sessions[leader]
		for _, p := range session {
			if p.StartTicks >= since {
				led = append(led, p.Stat)
			}
		}
		for _, p := range c.groups[leader] {
			if p.StartTicks >= since && !slices.Contains(session, p) {
				led = append(led, p.Stat)
			}
		}
	})
	return led, err
}

// there is called with mu held.
func (c *Census) there(id Identity) bool {
	p := c.all[id.PID]
	return p != nil && p.read == c.round && p.StartTicks == id.StartTicks
}

// view has read read what a look has found that began after asked, and that has read all that began since.
func (c *Census) view(since uint64, asked time.Time, read func()) error {
	for after := asked; ; after = time.Now() { // a look that is recent enough may not have read what is wanted now
		c.want(since)
		c.mu.RLock()
		if c.began.After(asked) && c.floor <= since {
			defer c.mu.RUnlock()
			read()
			return nil
		}
		c.mu.RUnlock()
		if _, err := c.looks.After(after, c.look); err != nil {
			return err
		}
	}
}

// want has looks read what began since, for some time.
func (c *Census) want(since uint64) {
	c.asking.Lock()
	defer c.asking.Unlock()
	c.lows[0] = min(c.lows[0], since)
}

// lowest is from when on a look reads.
func (c *Census) lowest() uint64 {
	c.asking.Lock()
	defer c.asking.Unlock()
	if now := time.Now(); now.Sub(c.turned) > lowsLast {
		c.lows, c.turned = [2]uint64{math.MaxUint64, c.lows[0]}, now
	}
	return min(c.lows[0], c.lows[1])
}

// look looks at the machine.
func (c *Census) look() (none struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now()
	c.began, c.floor = time.Time{}, c.lowest()
	c.round++
	if err := c.reader.Each(c.read); err != nil {
		return none, err
	}
	c.sort()
	c.began, c.took = began, time.Since(began)
	return none, nil
}

// read reads a process that was listed.
func (c *Census) read(pid int, inode uint64) {
	p := c.all[pid]
	switch {
	case p == nil:
		p = &process{}
	case inode != 0 && p.inode == inode && p.StartTicks < c.floor:
		p.seen = c.round
		return
	}
	was := Identity{p.PID, p.StartTicks}
	if c.reader.Stat(pid, &p.Stat) != nil {
		return // it is gone, which sort finds
	}
	if (Identity{p.PID, p.StartTicks}) != was || p.inode != inode {
		p.envRead, p.inode = false, inode
	}
	c.all[pid], p.seen = p, c.round
	if p.StartTicks >= c.floor {
		c.readMarks(p)
		p.read = c.round
	}
}

// readMarks reads the environment where it is not the one that was read: a process gets another when it executes a program, and
// the kernel lays it elsewhere. It has none any more when it ends, and may have overwritten it since with a title: then
// what it had counts.
func (c *Census) readMarks(p *process) {
	at := [2]uint64{p.EnvStart, p.EnvEnd}
	if p.envRead && (p.VirtBytes == 0 || p.envAt == at && p.EnvEnd != 0) {
		return
	}
	p.marks = p.marks[:0]
	environ, err := c.reader.Environ(p.PID)
	p.envRead, p.envAt = true, at
	if err != nil {
		return // another user's, or gone
	}
	for value := range procfs.Values(environ, c.variable) {
		p.marks = append(p.marks, string(value))
	}
}

// sort forgets who is gone, and puts all others where they are looked for.
func (c *Census) sort() {
	c.sessions.empty()
	c.groups.empty()
	c.children.empty()
	c.marks.empty()
	for pid, p := range c.all {
		if p.seen != c.round {
			delete(c.all, pid)
			continue
		}
		if p.read != c.round {
			continue
		}
		c.sessions[p.SID] = append(c.sessions[p.SID], p)
		c.groups[p.PGID] = append(c.groups[p.PGID], p)
		c.children[p.PPID] = append(c.children[p.PPID], p)
		for i, mark := range p.marks {
			if !slices.Contains(p.marks[:i], mark) {
				c.marks[mark] = append(c.marks[mark], p)
			}
		}
	}
}
