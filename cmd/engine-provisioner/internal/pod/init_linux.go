package pod

import (
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// BeInit returns, unless this program is the first of its pid namespace, as in a container: then it does what the kernel
// expects of that one. Processes whose parents die become its children, and stay in the table of processes until it reaps
// them; an engine's workers leave some at each restart. So the work is done by a child, and this process reaps whatever
// ends, passes signals on, and ends as the child does. To reap all children in the process that waits for engines would
// take their exit statuses away.
func BeInit() {
	if os.Getpid() != 1 {
		return
	}
	// Before the child: none must be lost. What is raised by a process about itself or its children is not for others.
	caught := make(chan os.Signal, 64)
	signal.Notify(caught)
	child, err := startBelow()
	if err != nil {
		signal.Reset() // it works without, too
		return
	}
	go func() {
		own := []os.Signal{syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE}
		for s := range caught {
			if sig, ok := s.(syscall.Signal); ok && !slices.Contains(own, s) {
				_ = syscall.Kill(child, sig)
			}
		}
	}()
	for {
		var status syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &status, 0, nil); {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			os.Exit(1) // no child, which cannot be
		case pid != child:
		case status.Signaled():
			os.Exit(128 + int(status.Signal()))
		case status.Exited():
			os.Exit(status.ExitStatus())
		}
	}
}

// startBelow starts this program again, with everything that this process has. It gets a group of its own, and a terminal
// with it, so that Ctrl-C does not reach it twice.
func startBelow() (pid int, err error) {
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil {
		attr.Sys.Foreground = true
		if pid, _, err = syscall.StartProcess("/proc/self/exe", os.Args, attr); err == nil {
			return pid, nil
		}
		attr.Sys.Foreground = false // it is another session's
	}
	pid, _, err = syscall.StartProcess("/proc/self/exe", os.Args, attr)
	return pid, err
}
