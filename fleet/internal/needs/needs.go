// Package needs makes replicas begin after those that they need, end before them, and notice when they have lost one.
//
// A fleet calls it for each launch, and for the order of its end. It starts and stops nothing, and knows of a replica what its
// [Stand] says.
package needs

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Stand is where a replica stands, for those that need it.
type Stand struct {
	Ready   bool
	Launch  string          // the launch that runs; "" when none does
	Since   time.Time       // when that began
	Words   string          // for people, such as "starting"
	Changed <-chan struct{} // closed when this is no longer so
}

// Replica is one that others need.
type Replica struct {
	Name  string
	Stand func() Stand // safe for concurrent use
}

// LostError says that a replica has lost one that it needs.
type LostError struct {
	Replica string // the one that is lost, as "pool/replica"
	Words   string // where that stands
}

func (e *LostError) Error() string {
	return fmt.Sprintf("it has lost %s, which it needs (%s)", e.Replica, e.Words)
}

// Launches are those that a replica has begun with, by the names of their replicas.
type Launches map[string]string

// Await returns when all are ready, with their launches, or ctx's cause when that ends first. tell is told of each wait.
func Await(ctx context.Context, all []Replica, tell func(name, words string)) (Launches, error) {
	var name, words string
again:
	found := Launches{}
	for _, r := range all {
		stand := r.Stand()
		if stand.Ready {
			found[r.Name] = stand.Launch
			continue
		}
		if name != r.Name || words != stand.Words {
			name, words = r.Name, stand.Words
			tell(name, words)
		}
		select {
		case <-stand.Changed:
			goto again // one that was ready may be no more
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return found, nil
}

// Found are the launches that one which began at a time has begun with: those that are older. The others it has lost.
func Found(all []Replica, began time.Time) (Launches, error) {
	found := Launches{}
	for _, r := range all {
		stand := r.Stand()
		if stand.Launch == "" || stand.Since.After(began) {
			return nil, &LostError{r.Name, stand.Words}
		}
		found[r.Name] = stand.Launch
	}
	return found, nil
}

// Watch returns a *LostError when one of the launches has ended, or nil when ctx ends first.
func Watch(ctx context.Context, all []Replica, with Launches) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lost := make(chan error, len(all))
	for _, r := range all {
		go func() {
			for {
				stand := r.Stand()
				if stand.Launch != with[r.Name] {
					lost <- &LostError{r.Name, stand.Words}
					return
				}
				select {
				case <-stand.Changed:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	select {
	case err := <-lost:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Ends puts replicas into the order of their end: those of one element can end together, those of the next when all before have.
// pool tells a replica's pool and those that it needs. A circle, which no configuration has, ends at once.
func Ends[T any](all []T, pool func(T) (id string, needs []string)) [][]T {
	var order [][]T
	for len(all) > 0 {
		needed := map[string]bool{}
		for _, one := range all {
			_, needs := pool(one)
			for _, need := range needs {
				needed[need] = true
			}
		}
		var now, later []T
		for _, one := range all {
			if id, _ := pool(one); needed[id] {
				later = append(later, one)
			} else {
				now = append(now, one)
			}
		}
		if len(now) == 0 {
			now, later = slices.Clone(all), nil
		}
		order, all = append(order, now), later
	}
	return order
}
