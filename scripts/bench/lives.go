//go:build linux

package main

import (
	"os"
	"time"
)

// life is what a fleet costs a starter, from beginning to end.
type life struct {
	start       time.Duration // until all are ready
	stop        time.Duration
	life        time.Duration // CPU of the starter: start, ready, stop
	threads     int           // of the starter, when all are ready
	recovery    time.Duration // of ready replicas whose starter was killed
	recoveryCPU time.Duration
}

// loads is how long the engines of fleets load.
const loads = time.Second

// settle is what follows readiness, such as the look at who has mapped shared memory.
const settle = 500 * time.Millisecond

// pair is two starters in the same run.
type pair struct{ ours, bare life }

// lives measures fleets of n replicas beside so many foreign processes, in turns, and returns medians.
func (l *lab) lives(n, foreign, samples int) (pair, error) {
	l.setForeign(foreign)
	var ours, bares []life
	for range samples {
		o, err := l.ours(n)
		if err != nil {
			return pair{}, err
		}
		b, err := l.bare(n)
		if err != nil {
			return pair{}, err
		}
		ours, bares = append(ours, o), append(bares, b)
	}
	return pair{middle(ours), middle(bares)}, nil
}

// middle has the median of each figure.
func middle(all []life) life {
	of := func(f func(life) time.Duration) time.Duration {
		var values []time.Duration
		for _, x := range all {
			values = append(values, f(x))
		}
		return median(values)
	}
	var threads []int
	for _, x := range all {
		threads = append(threads, x.threads)
	}
	return life{
		start: of(func(x life) time.Duration { return x.start }), stop: of(func(x life) time.Duration { return x.stop }),
		life: of(func(x life) time.Duration { return x.life }), threads: median(threads),
		recovery:    of(func(x life) time.Duration { return x.recovery }),
		recoveryCPU: of(func(x life) time.Duration { return x.recoveryCPU }),
	}
}

// ours is two lives: one to its end, and one whose manager is killed and followed by another.
func (l *lab) ours(n int) (x life, err error) {
	s, err := l.folder(loads)
	if err != nil {
		return x, err
	}
	defer func() { _ = os.RemoveAll(s.Dir) }()
	if err := l.whole(s, n, &x); err != nil {
		return x, err
	}
	first, err := l.worker(s)
	if err != nil {
		return x, err
	}
	_, err = first.all(order{Do: "start", N: n}, order{Do: "idle", Idle: settle})
	first.kill()
	if err != nil {
		return x, err
	}
	second, err := l.worker(s)
	if err != nil {
		return x, err
	}
	defer second.end()
	reports, err := second.all(order{Do: "recover", N: n}, order{Do: "idle", Idle: settle}, order{Do: "stop"})
	if err == nil {
		x.recovery, x.recoveryCPU = reports[0].Took, reports[1].All
	}
	return x, err
}

// bare is one life, during which another process looks at the engines' health.
func (l *lab) bare(n int) (x life, err error) {
	s, err := l.folder(loads)
	if err != nil {
		return x, err
	}
	defer func() { _ = os.RemoveAll(s.Dir) }()
	s.Bare = true
	return x, l.whole(s, n, &x, func() error {
		second, err := l.worker(s)
		if err != nil {
			return err
		}
		defer second.end()
		r, err := second.do(order{Do: "recover", N: n})
		x.recovery, x.recoveryCPU = r.Took, r.CPU
		return err
	})
}

// whole starts n replicas and stops them; meanwhile is done between.
func (l *lab) whole(s setup, n int, x *life, meanwhile ...func() error) error {
	w, err := l.worker(s)
	if err != nil {
		return err
	}
	defer w.end()
	reports, err := w.all(order{Do: "start", N: n}, order{Do: "idle", Idle: settle})
	for _, do := range meanwhile {
		if err == nil {
			err = do()
		}
	}
	if err != nil {
		return err
	}
	end, err := w.do(order{Do: "stop"})
	x.start, x.threads, x.stop, x.life = reports[0].Took, reports[0].Threads, end.Took, end.All
	return err
}

// all tells a worker several things.
func (w *worker) all(orders ...order) ([]report, error) {
	var reports []report
	for _, o := range orders {
		r, err := w.do(o)
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}
