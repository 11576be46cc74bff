package enginetest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// marker is the first argument of a process that is to be a fake engine or a child of one.
const marker = "-enginetest"

// invocation is the second argument of such a process.
type invocation struct {
	Cookie   string
	Behavior Behavior
	Child    *Child `json:",omitzero"` // set for a child of an engine
	Part     *part  `json:",omitzero"` // set for a process of an engine's own tree
}

// cookie marks the processes that this test process started, so that those of tests running beside it are not counted.
var cookie = sync.OnceValue(func() string { return "cookie-" + rand.Text() })

// Main turns the process into a fake engine when it was started as one, and then does not return. Otherwise it
// returns at once. Call it first thing in TestMain or main; [Run] does.
func Main() {
	if len(os.Args) < 3 || os.Args[1] != marker {
		return
	}
	var inv invocation
	if err := json.Unmarshal([]byte(os.Args[2]), &inv); err != nil {
		fmt.Fprintf(os.Stderr, "cannot read the behaviour of the fake engine: %v\n", err)
		os.Exit(2)
	}
	if inv.Child != nil {
		os.Exit(runChild(inv))
	}
	if inv.Part != nil {
		os.Exit(runPart(os.Args[3:], inv))
	}
	os.Exit(serve(os.Args[3:], inv))
}

// Serve is a fake engine with the command line args (without the program's name) on the process's own stdio and
// signals. It returns the exit status, or never when the engine dies by a signal. A program that calls it must call
// [Main] before.
func Serve(args []string, b Behavior) int {
	return serve(args, invocation{Behavior: b})
}

// Run runs the tests of m and returns the exit status. It calls [Main] first, and after the tests it fails when
// [Leftovers] finds engines or children that are still alive.
func Run(m *testing.M) int {
	Main()
	code := m.Run()
	left := settledLeftovers(settleTime)
	for _, pid := range left {
		fmt.Fprintf(os.Stderr, "enginetest: process %d of a fake engine is still alive: %s\n", pid, describe(pid))
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	if len(left) > 0 && code == 0 {
		code = 1
	}
	return code
}

// Install writes an executable that behaves like b into a temporary folder of t and returns its path. It has the name
// of b's [Profile], such as llama-server. Executed, it becomes this test binary (by exec, so the pid stays). TestMain
// must call [Run] or [Main].
func Install(t testing.TB, b Behavior) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatalf("cannot find the test binary: %v", err)
	}
	if b.Lifetime == 0 {
		b.Lifetime = 10 * time.Minute
	}
	dir := t.TempDir()
	if a := b.Engine.profile().about(); a.dist != "" {
		if err := installDist(dir, a); err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(dir, "bin")
	}
	path := filepath.Join(dir, b.Engine.Program())
	if err := InstallAt(path, exe, b); err != nil {
		t.Fatal(err)
	}
	return path
}

// InstallAt writes an executable file at path that runs exe as a fake engine that behaves like b. The program exe must
// call [Main]. An existing file is replaced.
func InstallAt(path, exe string, b Behavior) error {
	inv, err := json.Marshal(invocation{Cookie: cookie(), Behavior: b})
	if err != nil {
		return fmt.Errorf("cannot encode the behaviour of the fake engine: %w", err)
	}
	script := fmt.Sprintf("#!/bin/sh\n%sexec %s %s %s \"$@\"\n", fastExit, quote(exe), marker, quote(string(inv)))
	// A new file by rename: the path may be executing right now.
	tmp := path + ".new"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot install the fake engine: %w", err)
	}
	if err := writeExecutable(tmp, script); err != nil {
		return fmt.Errorf("cannot install the fake engine: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("cannot install the fake engine: %w", err)
	}
	return nil
}

// fastExit keeps an engine that was built with -race from sleeping a second before each exit, the default of the race
// detector's runtime.
const fastExit = "GORACE=\"atexit_sleep_ms=0 $GORACE\" "

// writeExecutable keeps other goroutines from forking while the file is open for writing: a child between fork and exec
// would still have it open, and executing it fails with "text file busy" (golang/go#22315).
func writeExecutable(path, text string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), 0o700)
}

// quote makes s one word of a POSIX shell.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
