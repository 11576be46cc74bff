package enginetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// part is one process of an engine's own tree, as data.
type part struct {
	Title   string // what ps shows in front
	Renamed bool   `json:",omitzero"` // by setproctitle, which takes the place of /proc/PID/environ
	Python  bool   `json:",omitzero"` // inherits no files beyond stdio
	Group   bool   `json:",omitzero"` // in a process group of its own
	Bound   bool   `json:",omitzero"` // killed by the kernel when its parent dies (PDEATHSIG). Linux only
	Watches bool   `json:",omitzero"` // ends when its parent does, by the end of a pipe
	Deaf    bool   `json:",omitzero"` // ignores SIGTERM and SIGINT
	Serves  bool   `json:",omitzero"` // has the port and answers on it
	Parts   []part `json:",omitzero"` // its own; it ends when one of them does
}

// member is a part that runs.
type member struct {
	title string
	deaf  bool
	pids  map[string]int // of itself and its own parts, by title
	cmd   *exec.Cmd
	link  *link
	ended chan struct{}
}

// message is what processes of one engine say to each other, a line of JSON each.
type message struct {
	PIDs   map[string]int `json:",omitzero"` // from a part that has started
	Order  *order         `json:",omitzero"` // of a test, for the engine's first process
	Ask    bool           `json:",omitzero"` // for a Report
	Report *Report        `json:",omitzero"`
}

// link is one end of a socket between a process and a part.
type link struct {
	mu   sync.Mutex // held from a question to its answer
	file *os.File
	in   *bufio.Reader
}

func newLink(f *os.File) *link { return &link{file: f, in: bufio.NewReader(f)} }

func (l *link) send(m message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = l.file.Write(append(data, '\n'))
	return err
}

func (l *link) receive() (m message, err error) {
	line, err := l.in.ReadBytes('\n')
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(line, &m)
}

// ask gets the report of the engine's first process.
func (l *link) ask() (*Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.send(message{Ask: true}); err != nil {
		return nil, err
	}
	m, err := l.receive()
	if err == nil && m.Report == nil {
		err = errors.New("no report came")
	}
	return m.Report, err
}

// startParts starts parts of the engine. When one of them ends before the engine does, lost is called with it.
func (e *engine) startParts(parts []part, lost func(*member)) error {
	inv := invocation{Cookie: e.cookie, Behavior: e.b}
	for _, p := range parts {
		started, err := startPart(p, inv, e.argv)
		if err != nil {
			return fmt.Errorf("cannot start %s: %w", p.Title, err)
		}
		e.mu.Lock()
		e.parts = append(e.parts, started)
		e.mu.Unlock()
		go e.hear(started, lost)
	}
	return nil
}

// hear does what a part wants done, until it ends.
func (e *engine) hear(p *member, lost func(*member)) {
	for {
		m, err := p.link.receive()
		switch {
		case err != nil:
			<-p.ended
			if lost != nil {
				lost(p)
			}
			return
		case m.Order != nil:
			e.execute(*m.Order)
		case m.Ask:
			r := e.report()
			_ = p.link.send(message{Report: &r})
		}
	}
}

// startPart starts a part and returns when it and its own parts stand.
func startPart(p part, inv invocation, args []string) (*member, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	started := &member{title: p.Title, deaf: p.Deaf, link: newLink(ours), ended: make(chan struct{})}
	if started.cmd, err = partCommand(p, inv, args); err == nil {
		started.cmd.Stdin = theirs
		err = started.cmd.Start()
	}
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	_ = theirs.Close()
	go func() {
		_ = started.cmd.Wait()
		close(started.ended)
	}()
	m, err := started.link.receive()
	if err != nil {
		return nil, fmt.Errorf("it did not say its pid: %w", err)
	}
	started.pids = m.PIDs
	return started, nil
}

func partCommand(p part, inv invocation, args []string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	inv.Part = &p
	data, err := json.Marshal(inv)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, append([]string{marker, string(data)}, args...)...)
	cmd.Args[0] = p.Title
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: p.Group}
	if p.Bound {
		bindToParent(cmd.SysProcAttr)
	}
	return cmd, nil
}

// socketPair returns two ends of a connection that only a process that gets one of them inherits.
func socketPair() (a, b *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return os.NewFile(uintptr(fds[0]), "part"), os.NewFile(uintptr(fds[1]), "parent"), nil
}

// runPart is the life of a part.
func runPart(args []string, inv invocation) int {
	p := *inv.Part
	time.AfterFunc(childLife, func() { syscall.Exit(3) })
	e := newEngine(args, inv)
	e.parent = newLink(os.Stdin)
	if p.Renamed {
		if err := errors.Join(rename(p.Title), wipeEnviron()); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			fmt.Fprintf(os.Stderr, "cannot take the name %s: %v\n", p.Title, err)
			return 1
		}
	}
	if p.Python {
		closeInherited()
	}
	if p.Deaf {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	}
	if p.Serves {
		return runRouter(e)
	}
	if !p.Deaf {
		e.onTerm(func(int) { e.exit <- 0 })
	}
	if err := e.startParts(p.Parts, func(*member) { e.exit <- 1 }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := e.parent.send(message{PIDs: e.pids(p.Title)}); err != nil {
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		if p.Watches {
			e.exit <- 0
		}
	}()
	return <-e.exit
}

// pids are those of the parts, and of this process under a title where it has one.
func (e *engine) pids(title string) map[string]int {
	all := map[string]int{}
	if title != "" {
		all[title] = os.Getpid()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.parts {
		maps.Copy(all, p.pids)
	}
	return all
}

// kill ends a part, or one of its own, by SIGKILL.
func (e *engine) kill(title string) {
	if pid := e.pids("")[title]; pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// endParts sends SIGTERM to parts, and SIGKILL to those that are there after the limit.
func (e *engine) endParts(limit time.Duration, parts []*member) {
	for _, p := range parts {
		sig := syscall.SIGTERM
		if p.deaf { // nobody waits for it: it ends with the pipe that the others hold
			sig = syscall.SIGKILL
		}
		_ = p.cmd.Process.Signal(sig)
	}
	over, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, p := range parts {
		select {
		case <-p.ended:
		case <-over.Done():
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
}
