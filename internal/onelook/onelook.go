// Package onelook lets those who ask the same at the same time share one look at the machine, which costs as much for one as
// for a hundred.
//
// Whoever has a look that many launches need calls it. It keeps no answer for later: what is asked is answered by a look that
// began after the question, so an answer is as fresh as one of one's own.
package onelook

import (
	"sync"
	"time"
)

// Look is a look that is shared. Its zero value is good, and it is safe for concurrent use.
type Look[T any] struct {
	mu    sync.Mutex
	began time.Time
	value T
	err   error
}

// Get is what look finds, for all who asked before it began. Who asks while a look goes on waits for the next one. Nobody may
// change the value.
func (l *Look[T]) Get(look func() (T, error)) (T, error) {
	asked := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.began.After(asked) {
		l.began = time.Now()
		l.value, l.err = look()
	}
	return l.value, l.err
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
