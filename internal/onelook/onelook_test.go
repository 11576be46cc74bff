package onelook

import (
	"sync"
	"testing"
	"time"
)

// One look serves all who asked before it began, and none who asked later.
func TestLook(t *testing.T) {
	t.Parallel()
	var s Look[int]
	looks, going, goOn := 0, make(chan struct{}), make(chan struct{})
	look := func() (int, error) {
		looks++
		if looks == 1 {
			close(going)
			<-goOn
		}
		return looks, nil
	}
	var all sync.WaitGroup
	all.Go(func() {
		if n, _ := s.Get(look); n != 1 {
			t.Errorf("the first is told %d", n)
		}
	})
	<-going
	asking := make(chan struct{}, 50)
	for range 50 {
		all.Go(func() {
			asking <- struct{}{}
			if n, _ := s.Get(look); n < 2 {
				t.Error("who asked while a look went on is told of that")
			}
		})
	}
	for range 50 {
		<-asking
	}
	close(goOn)
	all.Wait()
	if looks > 51 {
		t.Errorf("%d looks", looks)
	}
	before, asked := looks, time.Now()
	if n, _ := s.Get(look); n != before+1 {
		t.Errorf("a later question is told %d of %d", n, before)
	}
	if n, _ := s.After(asked, look); n != before+1 {
		t.Errorf("a look that is good is done again: %d of %d", n, before+1)
	}
}

// A look that panics is a failure for those who waited for it, and the next one is as any other.
func TestPanic(t *testing.T) {
	t.Parallel()
	var s Look[int]
	going, goOn := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		defer func() { _ = recover() }()
		_, _ = s.Get(func() (int, error) { close(going); <-goOn; panic("a mistake") })
	})
	<-going
	asked := time.Time{} // it has begun since
	all.Go(func() {
		if n, err := s.After(asked, nil); err == nil {
			t.Errorf("%d of a look that panicked", n)
		}
	})
	close(goOn)
	all.Wait()
	if n, err := s.Get(func() (int, error) { return 7, nil }); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestLooks(t *testing.T) {
	t.Parallel()
	var l Looks[int]
	a := l.Of("a")
	if l.Of("a") != a || l.Of("b") == a {
		t.Error("a name has a look of its own, the same each time")
	}
	for i := range 3 * mostKept {
		l.Of(string(rune('c' + i)))
	}
	if len(l.all) > mostKept {
		t.Errorf("%d are kept", len(l.all))
	}
}
