package needs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// fake is a replica whose stand a test sets.
type fake struct {
	name  string
	mu    sync.Mutex
	stand Stand
	ends  chan struct{}
}

func newFake(name string, s Stand) *fake {
	f := &fake{name: name, ends: make(chan struct{})}
	f.set(s)
	return f
}

func (f *fake) replica() Replica { return Replica{f.name, f.Stand} }

func (f *fake) Stand() Stand {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stand
}

func (f *fake) set(s Stand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.ends)
	f.ends = make(chan struct{})
	s.Changed = f.ends
	f.stand = s
}

func TestAwait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newFake("w/r0", Stand{Words: "starting"}), newFake("w/r1", Stand{Ready: true, Launch: "b1"})
		var told []string
		var found Launches
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			found, err = Await(t.Context(), []Replica{a.replica(), b.replica()}, func(name, words string) { told = append(told, name+" "+words) })
		}()
		synctest.Wait()
		b.set(Stand{Words: "failed"}) // while the other one is waited for
		a.set(Stand{Ready: true, Launch: "a1"})
		synctest.Wait()
		b.set(Stand{Words: "failed"}) // told once
		synctest.Wait()
		b.set(Stand{Ready: true, Launch: "b2"})
		<-done
		if err != nil || found["w/r0"] != "a1" || found["w/r1"] != "b2" {
			t.Errorf("%v, %v", found, err)
		}
		if !slices.Equal(told, []string{"w/r0 starting", "w/r1 failed"}) {
			t.Errorf("told %q", told)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		if _, err := Await(ctx, []Replica{newFake("w/r2", Stand{}).replica()}, func(string, string) {}); err == nil || err.Error() != "enough" {
			t.Errorf("called off: %v", err)
		}
	})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newFake("w/r0", Stand{Ready: true, Launch: "a1"}), newFake("w/r1", Stand{Launch: "b1"})
		with, err := Found([]Replica{a.replica(), b.replica()}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		lost := make(chan error, 1)
		go func() { lost <- Watch(t.Context(), []Replica{a.replica(), b.replica()}, with) }()
		synctest.Wait()
		b.set(Stand{Ready: true, Launch: "b1"}) // it has come to load
		synctest.Wait()
		select {
		case err := <-lost:
			t.Fatalf("lost at once: %v", err)
		default:
		}
		b.set(Stand{Words: "failed"})
		if err := <-lost; err == nil || err.Error() != "it has lost w/r1, which it needs (failed)" {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Watch(ctx, []Replica{a.replica()}, with); err != nil {
			t.Errorf("called off: %v", err)
		}
	})
}

// A launch that is younger than the one that needs it is another one than that had begun with.
func TestFound(t *testing.T) {
	t.Parallel()
	began := time.Now()
	for name, s := range map[string]Stand{
		"gone":    {Words: "stopped"},
		"younger": {Ready: true, Launch: "x", Since: began.Add(time.Second)},
	} {
		if _, err := Found([]Replica{newFake("w/r0", s).replica()}, began); err == nil {
			t.Errorf("%s: not lost", name)
		}
	}
	if with, err := Found([]Replica{newFake("w/r0", Stand{Launch: "x", Since: began}).replica()}, began); err != nil || with["w/r0"] != "x" {
		t.Errorf("%v, %v", with, err)
	}
}

// Nothing ends before what needs it, and everything ends.
func TestEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "pools")
		needs := make([][]string, n)
		var all []int
		for i := range n {
			for j := range i { // no circle
				if rapid.Bool().Draw(t, "needs") {
					needs[i] = append(needs[i], fmt.Sprint(j))
				}
			}
			for range rapid.IntRange(1, 3).Draw(t, "replicas") {
				all = append(all, i)
			}
		}
		all = rapid.Permutation(all).Draw(t, "order")
		ended, count := map[string]bool{}, 0
		for _, wave := range Ends(all, func(i int) (string, []string) { return fmt.Sprint(i), needs[i] }) {
			for _, i := range wave {
				for _, need := range needs[i] {
					if ended[need] {
						t.Fatalf("%s ended before %d", need, i)
					}
				}
			}
			for _, i := range wave {
				ended[fmt.Sprint(i)] = true
				count++
			}
		}
		if count != len(all) {
			t.Fatalf("%d of %d ended", count, len(all))
		}
	})
	if order := Ends([]string{"a", "b"}, func(s string) (string, []string) { return s, []string{"a", "b"} }); len(order) != 1 || len(order[0]) != 2 {
		t.Errorf("a circle: %q", order)
	}
}
