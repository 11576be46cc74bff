//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// children are all processes below this one. It adopts engines whose worker was killed, as an init does, so that they
// leave no zombies. So nobody else may wait for a process here, such as os/exec.
type children struct {
	starts chan func()

	mu      sync.Mutex
	ended   *sync.Cond
	exits   map[int]unix.WaitStatus
	alive   *sync.Cond
	running map[int]bool // that were started here
	over    bool         // none is started any more
}

func newChildren() (*children, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	c := &children{exits: map[int]unix.WaitStatus{}, running: map[int]bool{}, starts: make(chan func())}
	c.ended, c.alive = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	go func() {
		runtime.LockOSThread() // the death signal is of the parent's thread
		for do := range c.starts {
			do()
		}
	}()
	go c.reap()
	return c, nil
}

func (c *children) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		c.mu.Lock()
		switch {
		case err == nil:
			if c.running[pid] {
				c.exits[pid] = status
			}
			delete(c.running, pid)
			c.ended.Broadcast()
		case errors.Is(err, unix.ECHILD):
			for len(c.running) == 0 {
				c.alive.Wait()
			}
		}
		c.mu.Unlock()
	}
}

// start runs a program that dies with this one.
func (c *children) start(name string, args []string, files []*os.File) (pid int, err error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return 0, err
	}
	done := make(chan struct{})
	c.starts <- func() {
		defer close(done)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.over {
			err = errors.New("it is being ended")
			return
		}
		p, e := os.StartProcess(path, args, &os.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}})
		if err = e; err != nil {
			return
		}
		pid = p.Pid
		_ = p.Release()
		c.running[pid] = true
		c.alive.Broadcast()
	}
	<-done
	return pid, err
}

// end kills those that were started here and lets no other one be started.
func (c *children) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for pid := range c.running {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	for len(c.running) > 0 {
		c.ended.Wait()
	}
}

// wait returns when a process has ended and is reaped.
func (c *children) wait(pid int) unix.WaitStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if status, ok := c.exits[pid]; ok {
			delete(c.exits, pid)
			return status
		}
		c.ended.Wait()
	}
}

// time runs a command to its end and returns how long that took. What it prints goes to output.
func (c *children) time(args []string, output *os.File) (time.Duration, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	began := time.Now()
	pid, err := c.start(args[0], args, []*os.File{null, output, output})
	if err != nil {
		return 0, err
	}
	status := c.wait(pid)
	took := time.Since(began)
	if status != 0 {
		return 0, fmt.Errorf("%v ended with status %d", args, status.ExitStatus())
	}
	return took, nil
}
