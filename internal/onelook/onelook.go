// Package onelook lets those who ask the same at the same time share one look at the machine, which costs as much for one as
// for a hundred.
//
// Whoever has a look that many launches need calls it. What is asked is answered by a look that began after the question, so an
// answer is as fresh as one of one's own. It does nothing by itself, and has no goroutine.
package onelook

import (
	"errors"
	"sync"
	"time"
)

// Look is a look that is shared. Its zero value is good, and it is safe for concurrent use.
type Look[T any] struct {
	mu   sync.Mutex
	last *round[T] // the one that goes on, or was the last; nil before the first
	busy bool      // it goes on
	next *round[T] // of those who asked meanwhile; nil when nobody has
}

// round is one look. All who wait for it are woken at once: handed from one to the next, a lock took a hundred of them as long as
// the scheduler took to run each.
type round[T any] struct {
	turn  chan struct{} // closed when it may begin, and began is valid
	done  chan struct{} // closed when it is over, and what follows is valid
	began time.Time
	value T
	err   error
}

// Get is what look finds, for all who asked before it began. Who asks while a look goes on waits for the next one. Nobody may
// change the value.
func (l *Look[T]) Get(look func() (T, error)) (T, error) { return l.After(time.Now(), look) }

// After is Get for who asked some time ago: a look that began since is good.
func (l *Look[T]) After(asked time.Time, look func() (T, error)) (T, error) {
	r, own := l.round(asked)
	if !own {
		<-r.done
		return r.value, r.err
	}
	<-r.turn
	defer l.over(r) // also when look panics
	r.value, r.err = look()
	return r.value, r.err
}

// round is the one that answers a question. own says that the one who asks is who looks.
func (l *Look[T]) round(asked time.Time) (r *round[T], own bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.last != nil && l.last.began.After(asked):
		return l.last, false
	case l.next != nil:
		return l.next, false
	}
	r = &round[T]{turn: make(chan struct{}), done: make(chan struct{}), err: errGivenUp}
	l.next = r
	if !l.busy {
		l.begin()
	}
	return r, true
}

// begin begins the next round. It is called with mu held.
func (l *Look[T]) begin() {
	l.last, l.next, l.busy = l.next, nil, true
	l.last.began = time.Now()
	close(l.last.turn)
}

// errGivenUp is what the others are told when the one who looked did not come to an end.
var errGivenUp = errors.New("the look was given up")

func (l *Look[T]) over(r *round[T]) {
	close(r.done)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy = false; l.next != nil {
		l.begin()
	}
}

// Looks are looks at different things, by a name each. The zero value is good, and it is safe for concurrent use.
type Looks[T any] struct {
	mu  sync.Mutex
	all map[string]*Look[T]
}

// mostKept bounds the memory for names that nobody asks for any more.
const mostKept = 100

// Of is the look at what a name stands for.
func (l *Looks[T]) Of(name string) *Look[T] {
	l.mu.Lock()
	defer l.mu.Unlock()
	look := l.all[name]
	if look == nil {
		if l.all == nil || len(l.all) >= mostKept {
			l.all = map[string]*Look[T]{}
		}
		look = new(Look[T])
		l.all[name] = look
	}
	return look
}
