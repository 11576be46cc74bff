//go:build linux

// Command bench measures what the library costs, beside a bare starter in the same run: exec, a poll of /health every
// 10 ms, SIGTERM and a wait. BENCHMARKS.md says how to read what it prints.
//
//	go run ./scripts/bench -rows 'fleet|stop' -samples 9 -plot growth.svg
//
// Both starters run fake engines (package enginetest), each in a process of its own, so that what such a process costs
// is what its starter costs. All processes that it makes end with it. Linux only.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// workerMark is the first argument of a process that is to be a starter.
const workerMark = "-worker"

func main() {
	if len(os.Args) == 3 && os.Args[1] == workerMark {
		if err := work(os.Args[2]); err != nil {
			fail(err)
		}
		return
	}
	rows := flag.String("rows", "", "measure only the groups of rows that match this regular expression: "+strings.Join(groupNames(), ", "))
	samples := flag.Int("samples", 9, "how often each is measured; the median counts")
	plot := flag.String("plot", "", "file for the plot of the growth curves; none: they are not measured")
	profiles := flag.String("profiles", "", "folder for CPU profiles of the library, one for each start, stop and so on; none: they are not made")
	flag.Parse()
	wanted, err := regexp.Compile(*rows)
	if err != nil {
		fail(err)
	}
	if err := bench(wanted, *samples, *plot, *profiles); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func bench(rows *regexp.Regexp, samples int, plot, profiles string) (err error) {
	l, err := newLab()
	if err != nil {
		return err
	}
	closed := sync.OnceValue(l.close)
	defer func() {
		if e := closed(); err == nil {
			err = e
		}
	}()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM)
	go func() {
		<-interrupted
		_ = closed() // it is given up
		os.Exit(1)
	}()
	l.profiles = profiles
	if err := l.furnish(); err != nil {
		return err
	}
	fmt.Println(machine(), "before;", samples, "samples")
	var all []row
	for _, g := range groups {
		if !rows.MatchString(g.name) {
			continue
		}
		began := time.Now()
		measured, err := g.measure(l, samples)
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		note("%s: %v, %s", g.name, time.Since(began).Round(time.Second), machine())
		all = append(all, measured...)
	}
	if len(all) > 0 {
		fmt.Print("\n", table(all), "\n")
	}
	if plot != "" {
		points, err := curves(l, samples)
		if err != nil {
			return fmt.Errorf("curves: %w", err)
		}
		fmt.Print("\n", pointsTable(points), "\n")
		if err := os.WriteFile(plot, []byte(draw(points)), 0o644); err != nil { //nolint:gosec // a picture for everybody
			return err
		}
	}
	fmt.Println(machine(), "after")
	return nil
}

// note tells how far it is.
func note(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

// machine is what the numbers depend on.
func machine() string {
	var name unix.Utsname
	_ = unix.Uname(&name)
	load, _ := os.ReadFile("/proc/loadavg")
	processes, _ := filepath.Glob("/proc/[0-9]*")
	fields := append(strings.Fields(string(load)), "?")
	return fmt.Sprintf("Linux %s, %d cores, load %s, %d processes", unix.ByteSliceToString(name.Release[:]), runtime.NumCPU(), fields[0], len(processes))
}

// lab is where the measurements are made: a folder with engines in it, and the processes.
type lab struct {
	harness
	dir      string
	self     string
	engine   string // the executable that is a fake engine
	cli      string
	children *children
	foreign  []int
	profiles string
	port     int
	folders  int
}

// most is how many replicas there are at most.
const most = 200

func newLab() (*lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, self: self, engine: filepath.Join(dir, "fakeengine"), cli: filepath.Join(dir, "engine-provisioner")}
	l.children, err = newChildren()
	return l, err
}

// furnish makes what the measurements need.
func (l *lab) furnish() error {
	for path, name := range map[string]string{l.engine: "./enginetest/fakeengine", l.cli: "./cmd/engine-provisioner"} {
		if _, err := l.children.time([]string{"go", "build", "-o", path, name}, os.Stderr); err != nil {
			return err
		}
	}
	if err := l.try(func() { l.port = enginetest.FreePort(l, most) }); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "model.gguf"), []byte(enginetest.GGUF), 0o600)
}

// close ends what is left.
func (l *lab) close() error {
	l.children.end()
	l.cleanUp()
	left := enginetest.Leftovers()
	for _, pid := range left {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	err := os.RemoveAll(l.dir)
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("%d engines were left behind, and have been killed", len(left)))
	}
	return err
}

// setForeign makes there be n processes that are nobody's business.
func (l *lab) setForeign(n int) {
	for _, pid := range l.foreign[min(n, len(l.foreign)):] {
		_ = unix.Kill(pid, unix.SIGKILL)
		l.children.wait(pid)
	}
	l.foreign = l.foreign[:min(n, len(l.foreign))]
	for len(l.foreign) < n {
		pid, err := l.children.start("sleep", []string{"sleep", "3600"}, nil)
		if err != nil {
			panic(err)
		}
		l.foreign = append(l.foreign, pid)
	}
}

// install writes an executable that loads for so long and returns its path.
func (l *lab) install(load time.Duration) (string, error) {
	path := filepath.Join(l.dir, "engine-"+load.String(), "llama-server")
	return path, enginetest.InstallAt(path, l.engine, enginetest.Behavior{LoadTime: load, Lifetime: 30 * time.Minute})
}

// setup is what a worker is told.
type setup struct {
	Bare   bool   // be the bare starter
	Dir    string // for its state
	Cache  string
	Engine string // the executable
	Model  string
	Port   int // of the first replica

	Profiles string // folder for CPU profiles of the library; "" for none
}

// folder is where a life leaves its state.
func (l *lab) folder(load time.Duration) (setup, error) {
	engine, err := l.install(load)
	l.folders++
	s := setup{
		Dir: filepath.Join(l.dir, fmt.Sprint(l.folders)), Cache: filepath.Join(l.dir, "cache"), Engine: engine,
		Model: filepath.Join(l.dir, "model.gguf"), Port: l.port, Profiles: l.profiles,
	}
	if err == nil {
		err = os.Mkdir(s.Dir, 0o700)
	}
	return s, err
}

func (s setup) String() string {
	data, _ := json.Marshal(s)
	return string(data)
}
