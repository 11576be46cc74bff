//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// row is a line of the table of aims.
type row struct {
	what string
	ours string
	bare string
	aim  string
	met  bool
}

// many is how many replicas a fleet has, foreign how many other processes a busy host.
const (
	many    = 100
	foreign = 1500
)

// groups are the rows that are measured together.
var groups = []struct {
	name    string
	measure func(l *lab, samples int) ([]row, error)
}{
	{"commands", commands},
	{"fleet", manyReplicas},
	{"one", one},
	{"ready", readiness},
	{"idle", idle},
}

func groupNames() []string {
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	return names
}

// manyReplicas is the lives of many replicas, on a host with few and with many other processes.
func manyReplicas(l *lab, samples int) ([]row, error) {
	few, err := l.lives(many, 0, samples)
	if err != nil {
		return nil, err
	}
	crowd, err := l.lives(many, foreign, samples)
	l.setForeign(0)
	if err != nil {
		return nil, err
	}
	beside := fmt.Sprintf(", beside %d foreign processes", foreign)
	rows := []row{
		ratio(fmt.Sprintf("%d at once, load of 1 s → all ready", many), few.ours.start, few.bare.start, 1.3),
		ratio("the same"+beside, crowd.ours.start, crowd.bare.start, 1.3),
		atMost("CPU of the manager for a whole life, each", few.ours.life/many, few.bare.life/many, 10*time.Millisecond),
		growth("the same"+beside, crowd.ours.life/many, crowd.bare.life/many, few.ours.life/many, 1.2),
		{
			fmt.Sprintf("threads at %d starts", many), fmt.Sprint(few.ours.threads), fmt.Sprint(few.bare.threads), "≤ 30",
			few.ours.threads <= 30,
		},
		atMost(fmt.Sprintf("recovery of %d ready replicas", many), few.ours.recovery, few.bare.recovery, 500*time.Millisecond),
		growth("the same"+beside, crowd.ours.recovery, crowd.bare.recovery, few.ours.recovery, 1.3),
		atMost("CPU of a recovery, each", few.ours.recoveryCPU/many, few.bare.recoveryCPU/many, 5*time.Millisecond),
		growth("the same"+beside, crowd.ours.recoveryCPU/many, crowd.bare.recoveryCPU/many, few.ours.recoveryCPU/many, 1.3),
		ratio(fmt.Sprintf("stop of %d idle replicas", many), few.ours.stop, few.bare.stop, 1.5),
		ratio("the same"+beside, crowd.ours.stop, crowd.bare.stop, 1.5),
	}
	return rows, nil
}

// one is what happens to a single replica.
func one(l *lab, samples int) ([]row, error) {
	var stops, crashes [2][]time.Duration // ours and the bare starter's
	for range samples {
		for i := range stops {
			s, err := l.folder(0)
			if err != nil {
				return nil, err
			}
			s.Bare = i == 1
			w, err := l.worker(s)
			if err != nil {
				return nil, err
			}
			reports, err := w.all(order{Do: "start", N: 1}, order{Do: "crash"}, order{Do: "idle", Idle: time.Second}, order{Do: "stop"})
			w.end()
			if err != nil {
				return nil, err
			}
			crashes[i] = append(crashes[i], reports[1].Values...)
			stops[i] = append(stops[i], reports[3].Took)
		}
	}
	stop, bareStop := median(stops[0]), median(stops[1])
	return []row{
		{
			"stop of one idle replica", text(stop), text(bareStop), "≤ 20 ms beyond the engine's own exit",
			stop-bareStop <= 20*time.Millisecond,
		},
		atMost("crash of a stable replica → engine started again", median(crashes[0]), median(crashes[1]), 30*time.Millisecond),
	}, nil
}

// readiness is how long after an engine's first 200 it is known to be ready.
func readiness(l *lab, samples int) ([]row, error) {
	var rows []row
	for _, c := range []struct{ load, aim time.Duration }{
		{50 * time.Millisecond, 3 * time.Millisecond},
		{time.Second, 10 * time.Millisecond},
		{10 * time.Second, 60 * time.Millisecond},
	} {
		var delays [2][]time.Duration
		errs := make(chan error)
		for i := range delays {
			time.Sleep(time.Duration(i) * apart / 2) // in turns
			s, err := l.folder(c.load)
			if err != nil {
				return nil, err
			}
			s.Bare, s.Port = i == 1, s.Port+i*samples
			w, err := l.worker(s)
			if err != nil {
				return nil, err
			}
			go func() {
				r, err := w.do(order{Do: "ready", N: samples})
				delays[i] = r.Values
				w.end()
				errs <- err
			}()
		}
		for range delays {
			if err := <-errs; err != nil {
				return nil, err
			}
		}
		rows = append(rows, atMost(fmt.Sprintf("engine's first 200 after a load of %v → ready", c.load), median(delays[0]), median(delays[1]), c.aim))
	}
	return rows, nil
}

// idle is what it costs to look after many replicas that do nothing.
func idle(l *lab, samples int) ([]row, error) {
	const (
		window = 10 * time.Second // the interval of the health checks of what is ready
		settle = 2 * time.Second  // what follows readiness
	)
	var used [2][]time.Duration
	var size [2][]int64
	for i := range used {
		s, err := l.folder(0)
		if err != nil {
			return nil, err
		}
		s.Bare = i == 1
		w, err := l.worker(s)
		if err != nil {
			return nil, err
		}
		reports, err := w.all(order{Do: "memory"}, order{Do: "start", N: most}, order{Do: "idle", Idle: settle})
		for range samples {
			var more []report
			if err == nil {
				more, err = w.all(order{Do: "memory"}, order{Do: "idle", Idle: window})
			}
			if err == nil {
				used[i] = append(used[i], more[1].CPU)
				size[i] = append(size[i], (more[0].Bytes-reports[0].Bytes)/most)
			}
		}
		if err == nil {
			_, err = w.do(order{Do: "stop"})
		}
		w.end()
		if err != nil {
			return nil, err
		}
	}
	share := func(i int) float64 { return 100 * float64(median(used[i])) / float64(window) }
	kilobytes := func(i int) string { return fmt.Sprintf("%.0f KB", float64(median(size[i]))/1000) }
	return []row{
		{fmt.Sprintf("%d supervised, idle: share of a core", most), fmt.Sprintf("%.2f %%", share(0)), fmt.Sprintf("%.2f %%", share(1)), "≤ 0.5 %", share(0) <= 0.5},
		{fmt.Sprintf("%d supervised, idle: heap and stacks, each", most), kilobytes(0), kilobytes(1), "≤ 60 KB", median(size[0]) <= 60_000},
	}, nil
}

// commands are whole runs of the built command: process start, work, exit.
func commands(l *lab, samples int) ([]row, error) {
	s, err := l.folder(0)
	if err != nil {
		return nil, err
	}
	pools := filepath.Join(s.Dir, "pools.yaml")
	text := fmt.Sprintf("state_dir: %s\npools:\n  - {id: pool, engine: llamacpp, port: %d, gpu: none, model: {id: %q}, "+
		"provisioning: {mode: binary, binary: {path: %q}}}\n", s.Dir, s.Port, s.Model, s.Engine)
	if err := os.WriteFile(pools, []byte(text), 0o600); err != nil {
		return nil, err
	}
	w, err := l.worker(s)
	if err != nil {
		return nil, err
	}
	defer w.end()
	if _, err := w.do(order{Do: "start", N: 1}); err != nil { // so that status has something to look at
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	var rows []row
	for _, args := range [][]string{{l.cli, "version"}, {l.cli, "status", "--config", pools}, {l.cli, "validate", pools}} {
		var took, nothing []time.Duration
		for range 3 * samples {
			for _, c := range []struct {
				args []string
				into *[]time.Duration
			}{{args, &took}, {[]string{"/bin/true"}, &nothing}} {
				d, err := l.children.time(c.args, null)
				if err != nil {
					return nil, err
				}
				*c.into = append(*c.into, d)
			}
		}
		r := atMost("command "+args[1]+", beyond /bin/true", median(took)-median(nothing), median(nothing), 8*time.Millisecond)
		r.bare += " (true)"
		rows = append(rows, r)
	}
	_, err = w.do(order{Do: "stop"})
	return rows, err
}

// median is the middle one.
func median[T int | int64 | time.Duration](all []T) T {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func text(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	default:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
}

func atMost(what string, ours, bare, limit time.Duration) row {
	return row{what, text(ours), text(bare), "≤ " + strings.ReplaceAll(text(limit), ".0 ", " "), ours <= limit}
}

// ratio is a row whose aim is a multiple of what the bare starter takes.
func ratio(what string, ours, bare time.Duration, limit float64) row {
	share := float64(ours) / float64(bare)
	return row{what, fmt.Sprintf("%s, %.2f ×", text(ours), share), text(bare), fmt.Sprintf("≤ %g × bare", limit), share <= limit}
}

// growth is a row whose aim is a multiple of ours on a host that has little else to do.
func growth(what string, ours, bare, before time.Duration, limit float64) row {
	share := float64(ours) / float64(before)
	return row{what, fmt.Sprintf("%s, %.2f ×", text(ours), share), text(bare), fmt.Sprintf("≤ %g × that", limit), share <= limit}
}

// table is the rows in Markdown.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| What | Ours | Bare starter | Aim | Met |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		met := "yes"
		if !r.met {
			met = "**no**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.what, r.ours, r.bare, r.aim, met)
	}
	return b.String()
}
