// Package launch is the contract for launchers: what performs the launches of one provisioning mode, such as package docker
// those in containers. It owns the types of that contract. Authors of launchers import it, and programs that give one to
// [github.com/llama-orch/engine-provisioner.WithLauncher] have no need to. It starts nothing and looks at nothing.
package launch

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Launcher performs launches of one provisioning mode, as an engine describes them. The processes of this host need none
// to be added; package docker has the one for containers, which keeps the container client out of programs that want
// none. A Launcher must be safe for concurrent use. Where its errors hold an [*Error], that is what people are told.
type Launcher interface {
	// Mode is the provisioning mode in the configuration, such as "container".
	Mode() string
	// Locate finds what the engine is run from. Where it is not on this node, pending says what Fetch would do, for people.
	Locate(ctx context.Context, to Target, program engine.Program) (b engine.Binary, pending string, err error)
	// Fetch gets it onto this node. Of the Binary, Path and Digest are known; the rest is found out by Ask.
	Fetch(ctx context.Context, to Target, program engine.Program, tell func(Progress)) (engine.Binary, error)
	// Ask runs a Binary with arguments such as "--version" and returns what it prints on both streams.
	Ask(ctx context.Context, to Target, program engine.Program, b engine.Binary, args []string) (output string, err error)
	// Reserve makes an Instance of a launch that is about to begin. It may complete ref with what finds the launch again,
	// and changes nothing on the node: the launch's record is written in between.
	Reserve(to Target, ref Ref) (Instance, error)
	// Find takes hold of a launch that this program or an earlier one has begun. An Instance that has exited is what
	// becomes of a launch whose main process is gone; an error says that nobody can tell.
	Find(ctx context.Context, ref Ref) (Instance, error)
}

// Target is what a launcher reads of a configuration.
type Target struct {
	Host      string            // where the engine is to be reached
	Port      int               // on Host
	Env       map[string]string // of the configuration, without its secrets: for questions
	Keyed     bool              // the engine answers only who presents an API key
	Container Container
}

// Container is where and how an engine runs in a container, by the configuration. What is empty is the engine's own.
type Container struct {
	Image         string // the full name, with tag or digest
	Pull          string // "missing", "always" or "never"; "" is "missing"
	RuntimeSocket string // "" for the usual ones
	Network       string // "bridge", "host" or another's name; "" is one where no other container reaches the engine
	Volumes       []string
	Entrypoint    []string
	ShmSize       int64  // in bytes; 0 is the engine's own
	IPC           string // "private" or "host"; "" is "private"
	User          string
	GPUDriver     string // "nvidia" or "cdi"; "" is what suits the runtime
}

// Progress is how far Fetch is with one download.
type Progress struct {
	What      string  // for people
	Done      int64   // bytes
	Total     int64   // bytes; 0 where it is not known
	Rate      float64 // bytes a second of late
	Remaining float64 // seconds; 0 where that cannot be told
}

// Ref is what finds a launch again, also for a later program.
type Ref struct {
	StateDir  string // absolute; two of them may have replicas of one name
	StateID   string // what no other StateDir has, also one with its path elsewhere; "" when it was not made yet
	Pool      string
	Replica   string
	LaunchID  string
	StartedAt time.Time
	Log       string // the file for the engine's output
	TempDir   string // for the engine's temporary files, as the engine sees it
	Runtime   string // of a container: the socket of its runtime
}

// Launch is one launch to be performed.
type Launch struct {
	Target Target
	Spec   engine.LaunchSpec
	Host   engine.Host
	Image  engine.Image // the engine's own
	Args   []string     // the command line after the executable
	Env    []string     // all of the environment; it may hold secrets
	Dir    string       // the working directory
	Grace  time.Duration
	Note   func(string) // tells what is worth knowing and changes nothing
}

// Instance is one launch being performed. Its methods are safe for concurrent use once Start or Find has returned.
type Instance interface {
	// Ref is what finds the launch again, as far as it is known by now.
	Ref() Ref
	// Start begins it. When it fails, what Kill and Remove do not find is gone.
	Start(ctx context.Context, l Launch) error
	// PID is the id of the main process on this host; 0 when it is not known.
	PID() int
	// Wait returns nil when the main process has ended, with all its output in the log, or the cause of ctx's end.
	Wait(ctx context.Context) error
	// Exited reports whether the main process has ended, or is not known.
	Exited() bool
	// Signal sends sig to the main process, which may have ended.
	Signal(sig syscall.Signal) error
	// Members lists the living processes.
	Members() ([]Member, error)
	// Observe is Members that remembers what they would leave behind if they were killed.
	Observe() ([]Member, error)
	// Kill sends SIGKILL to all processes and returns how many there were.
	Kill() (int, error)
	// Listens reports whether a process of the launch listens on host and port; known is false when that cannot be seen.
	Listens(host string, port int) (owns, known bool)
	// Exit tells how the main process ended, after it has.
	Exit() Exit
	// Remove removes what is left of a launch all of whose processes have ended.
	Remove() error
	// Release lets go of what runs on. It changes nothing on the node.
	Release()
}

// Member is a living process of a launch.
type Member struct {
	PID    int // on this host; 0 when it is not known
	Name   string
	State  byte          // as in /proc/<pid>/stat
	CPU    time.Duration // used so far
	Memory int64         // resident, in bytes
}

// Exit is how a main process ended. The zero value means that it is not known, as for another's child.
type Exit struct {
	Known  bool
	Code   int    // -1 when a signal ended it
	Signal string // such as "killed"; "" when it exited by itself

	OOM       string // what tells that the kernel killed it for want of memory; "" for nothing
	OOMShared bool   // that may be about another launch
	NotOOM    bool   // whoever counts such kills has counted none
}

// String returns how it ended, for people.
func (e Exit) String() string {
	switch {
	case !e.Known:
		return "unknown"
	case e.Signal != "":
		return "signal: " + e.Signal
	default:
		return fmt.Sprintf("code %d", e.Code)
	}
}

// Error is why a launch cannot be performed, with its cause and what to do.
type Error struct {
	Cause  engine.Cause // CauseDriver says that it is about GPUs
	Advice string
	Err    error
}

// Error tells why.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *Error) Unwrap() error { return e.Err }
