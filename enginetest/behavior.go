package enginetest

import (
	"syscall"
	"time"
)

// Behavior scripts a fake engine. The zero value is a good engine that loads at once.
//
// Options can be combined. A duration or size of zero turns its option off.
type Behavior struct {
	// Engine is the kind of engine; the zero value is llama.cpp's llama-server.
	Engine Profile `json:",omitzero"`
	// Speed divides the engine's own waits, such as the five seconds after which vLLM ends when its EngineCore is gone.
	// 0 is 1: as slow as the real one. Times that the command line gives are kept.
	Speed int `json:",omitzero"`

	// LoadTime is how long the engine loads. llama-server answers 503 meanwhile; the port of the others is closed.
	LoadTime time.Duration `json:",omitzero"`
	// WarmUp is how long SGLang answers 503 after the load.
	WarmUp time.Duration `json:",omitzero"`
	// StallLog prints a line of progress each time it passes while loading.
	StallLog time.Duration `json:",omitzero"`
	// DieLoading ends the engine before it is ready, counted from its start. With [BindNever] or a longer BindDelay it
	// dies before its port is open.
	DieLoading *Death `json:",omitzero"`
	// DieReady ends the engine after it became ready.
	DieReady *Death `json:",omitzero"`
	// StopSelf sends SIGSTOP to the engine itself this long after it became ready.
	StopSelf time.Duration `json:",omitzero"`
	// Lifetime is when the engine gives up by itself; [Install] sets ten minutes when it is zero.
	Lifetime time.Duration `json:",omitzero"`

	// BindDelay is how long nothing happens at first, as during a download or the imports of a Python engine. The port is
	// closed, and SIGTERM kills all but TGI.
	BindDelay time.Duration `json:",omitzero"`
	// Bind says what goes wrong with the port.
	Bind Bind `json:",omitzero"`

	// Health says how GET /health misbehaves, from the bind on.
	Health Health `json:",omitzero"`
	// HealthStatus is what GET /health answers instead of 200 once ready.
	HealthStatus int `json:",omitzero"`
	// Redirect is where GET /health redirects to (302), from the bind on.
	Redirect string `json:",omitzero"`
	// PropsModel is the model that the engine reports (llama-server: model_path in /props) instead of the real one.
	PropsModel string `json:",omitzero"`
	// PropsBuild is the version that the engine reports (llama-server: build_info in /props) instead of the real one.
	PropsBuild string `json:",omitzero"`
	// DeafFirst is how many GET requests of each page but the health path are never answered, from the first one on: the
	// connection stays open. Afterwards the engine answers.
	DeafFirst int `json:",omitzero"`
	// LoseFirst is how many POST requests are never answered, from the first one on, as DeafFirst does it.
	LoseFirst int `json:",omitzero"`
	// Metrics says how GET /metrics misbehaves when --metrics is on.
	Metrics Metrics `json:",omitzero"`

	// Answer says how completion requests misbehave.
	Answer Answer `json:",omitzero"`
	// AnswerStatus is the status of an error that completion requests get.
	AnswerStatus int `json:",omitzero"`
	// BusyRequests is how long a completion request takes.
	BusyRequests time.Duration `json:",omitzero"`
	// HideRequests has the gauges say that there are no requests, whatever there is.
	HideRequests bool `json:",omitzero"`
	// Threads is how many requests of any page are handled at once; further ones wait without an answer, as those of a
	// llama-server whose --threads-http are all held by completions.
	Threads int `json:",omitzero"`
	// MetricsWake has GET /metrics count as work for --sleep-idle-seconds, as in builds of llama-server before August 2026: it
	// wakes a sleeping engine, which the log tells, and keeps an idle one awake.
	MetricsWake bool `json:",omitzero"`

	// IgnoreTerm ignores SIGTERM and SIGINT, from the start on.
	IgnoreTerm bool `json:",omitzero"`
	// ExitOnSecondTerm ignores the first SIGTERM or SIGINT once ready and exits 1 on the second, as llama-server does
	// when its handler deadlocks: the port stays open and /health stays 200.
	ExitOnSecondTerm bool `json:",omitzero"`
	// SlowExit is the time between the first SIGTERM and the exit. The port closes at once.
	SlowExit time.Duration `json:",omitzero"`

	// Children are processes that the engine starts before it binds. It never stops them.
	Children []Child `json:",omitzero"`
	// WipeEnviron empties what /proc/PID/environ shows, as setproctitle does. The engine keeps its environment. Linux only.
	WipeEnviron bool `json:",omitzero"`
	// Shm is the size of an object /dev/shm/enginetest-PID that the engine maps and leaves behind. Linux only.
	Shm int `json:",omitzero"`
	// TmpFiles leaves a file and a unix socket behind in TMPDIR.
	TmpFiles bool `json:",omitzero"`
	// MemoryHog is the number of bytes of memory that the engine holds and has touched.
	MemoryHog int `json:",omitzero"`

	// LogText is printed to stderr at the start of the load, as it is.
	LogText string `json:",omitzero"`
	// LogFlood is the number of bytes that are logged each second, in lines of 100 bytes that
	// begin with "flood" and their number, from 0 on.
	LogFlood int `json:",omitzero"`
	// LogLine is the length of one line without an end, logged at the start.
	LogLine int `json:",omitzero"`
	// LogANSI logs a line with colours, a window title, a carriage return, a bell, a NUL and a byte that is not UTF-8.
	LogANSI bool `json:",omitzero"`
	// LogSecret logs the API keys.
	LogSecret bool `json:",omitzero"`
	// LogEnv logs the whole environment, one variable a line.
	LogEnv bool `json:",omitzero"`

	// StrictFlags refuses flags that the help does not list, as the real engines do.
	StrictFlags bool `json:",omitzero"`
	// CheckModel fails the start when the model's file is not there, or its folder has no config.json or no whole
	// safetensors, as the real engines do.
	CheckModel bool `json:",omitzero"`
	// VersionText is what the engine prints when it is asked for its version, instead of the profile's.
	VersionText string `json:",omitzero"`
	// Devices is what llama-server prints for --list-devices. Where it is "", it prints nothing: one that cannot tell.
	Devices string `json:",omitzero"`
	// HelpText is what the engine prints when it is asked for help, instead of a short extract of the real one.
	HelpText string `json:",omitzero"`
}

// Death says when and how an engine ends. The zero value is an exit with status 0 at once.
type Death struct {
	After  time.Duration  `json:",omitzero"`
	Code   int            `json:",omitzero"` // the exit status
	Signal syscall.Signal `json:",omitzero"` // die by this signal instead
	Stderr string         `json:",omitzero"` // last words
}

// Bind is what goes wrong with the engine's port.
type Bind string

// The ways in which binding goes wrong.
const (
	BindNever Bind = "never" // the engine lives on and never opens its port
	BindFail  Bind = "fail"  // the engine says that the port cannot be bound and exits 1
	BindOther Bind = "other" // the engine listens on another port than it was told
)

// Health is a way in which GET /health misbehaves.
type Health string

// The ways in which GET /health misbehaves.
const (
	AcceptOnly     Health = "accept-only"     // every connection is accepted and nothing is ever read or answered
	DribbleHeader  Health = "dribble-header"  // 200, then a header without end, one byte per 100 ms
	DribbleBody    Health = "dribble-body"    // 200, then a body of 1 MB, one byte per 100 ms
	Flood1xx       Health = "flood-1xx"       // 103 Early Hints without end
	EndlessHeaders Health = "endless-headers" // 200, then header lines without end
	EndlessBody    Health = "endless-body"    // 200, then a chunked body without end
	GzipBomb       Health = "gzip-bomb"       // 200, then 10 MB that unpack to 10 GB
)

// Metrics is a way in which GET /metrics misbehaves.
type Metrics string

// The ways in which GET /metrics misbehaves.
const (
	MetricsOff           Metrics = "off"            // 501, as llama-server's without --metrics; 404 from others
	MetricsNotFound      Metrics = "not-found"      // 404, as on another server
	MetricsMalformed     Metrics = "malformed"      // 200 with a text that is not Prometheus'
	MetricsMissingSeries Metrics = "missing-series" // valid, without the gauges of running and waiting requests
	MetricsHuge          Metrics = "huge"           // valid series without end
)

// Answer is a way in which completion requests misbehave.
type Answer string

// The ways in which completion requests misbehave.
const (
	AnswerCut  Answer = "cut"  // the connection ends in the middle of the answer
	AnswerDie  Answer = "die"  // the process that computes dies at its first token; llama-server by SIGILL
	AnswerHang Answer = "hang" // no answer ever comes
)

// Child is a process that a fake engine starts and does not stop.
type Child struct {
	Kind       ChildKind `json:",omitzero"`
	IgnoreTerm bool      `json:",omitzero"` // ignores SIGTERM, SIGINT and SIGHUP
	CloseFDs   bool      `json:",omitzero"` // closes what it inherited beyond stdio, such as a lock. Linux only
	HoldStdout bool      `json:",omitzero"` // keeps the engine's stdout and stderr open; else it has /dev/null
	ClearEnv   bool      `json:",omitzero"` // starts with an empty environment
	// Outlives is how long it lives on once the engine is gone, as Python's resource tracker does for its work; 0 means for
	// minutes. A DoubleFork takes none.
	Outlives time.Duration `json:",omitzero"`
}

// ChildKind says where a child stands in the process tree. The zero value is [SameGroup].
type ChildKind string

// The kinds of children.
const (
	SameGroup  ChildKind = ""            // in the engine's process group
	OwnGroup   ChildKind = "own-group"   // in a group of its own
	NewSession ChildKind = "new-session" // in a session of its own
	DoubleFork ChildKind = "double-fork" // in a session of its own, and its parent is gone
)
