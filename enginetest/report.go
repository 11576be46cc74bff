package enginetest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// answerTime bounds the wait for a fake engine. It is long, as the machine may be busy.
const answerTime = time.Minute

// reportPath serves the Report of an engine, also while it loads, and without a key.
const reportPath = "/__fake"

// Report is what a fake engine knows of itself.
type Report struct {
	Argv     []string          `json:"argv"` // without the program
	Env      []string          `json:"env"`
	Cwd      string            `json:"cwd"`
	PID      int               `json:"pid"`
	PPID     int               `json:"ppid"`
	PGID     int               `json:"pgid"`
	SID      int               `json:"sid"`
	Children []int             `json:"children"` // pids, in the order of Behavior.Children
	Parts    map[string]int    `json:"parts"`    // pids of the profile's own processes by their titles
	Signals  map[string]int    `json:"signals"`  // SIGTERM and SIGINT that it survived
	Files    map[string]string `json:"files"`    // descriptor to what it is open on; Linux only

	ReadyAt     time.Time     `json:"ready_at"`     // when /health began to answer 200; zero while it loads
	FirstAnswer time.Duration `json:"first_answer"` // how long the first completion request took; zero before its end
}

// Inspect returns the Report of the engine at baseURL, such as "http://127.0.0.1:8081". An engine with [AcceptOnly]
// does not answer.
func Inspect(t testing.TB, baseURL string) Report {
	t.Helper()
	client := &http.Client{Timeout: answerTime, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(baseURL + reportPath)
	if err != nil {
		t.Fatalf("cannot ask the fake engine: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var r Report
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatalf("cannot read the fake engine's report: %v", err)
	}
	return r
}

// Kill ends the engine at baseURL as d says. It returns when the engine has taken the order, so that a test decides the
// moment, where Behavior.DieReady leaves it to the clock.
func Kill(t testing.TB, baseURL string, d Death) {
	t.Helper()
	tell(t, baseURL, order{Death: d})
}

// Hang makes the engine at baseURL leave every further request without an answer, as one whose web server has a deadlock.
func Hang(t testing.TB, baseURL string) {
	t.Helper()
	tell(t, baseURL, order{Hang: true})
}

// Wedge makes the engine at baseURL answer no completion any more, while its other pages go on, as one whose loop has a
// deadlock behind its web server.
func Wedge(t testing.TB, baseURL string) {
	t.Helper()
	tell(t, baseURL, order{Wedge: true})
}

// Fail makes the engine at baseURL answer every further GET /health with status.
func Fail(t testing.TB, baseURL string, status int) {
	t.Helper()
	tell(t, baseURL, order{Fail: status})
}

// Flood makes the engine at baseURL log rate bytes a second from now on, as Behavior.LogFlood does from its start on.
func Flood(t testing.TB, baseURL string, rate int) {
	t.Helper()
	tell(t, baseURL, order{Flood: rate})
}

// KillPart kills a process of the profile's own tree at baseURL by SIGKILL. Its title is a key of Report.Parts.
func KillPart(t testing.TB, baseURL, title string) {
	t.Helper()
	tell(t, baseURL, order{Part: title})
}

// order is what a test tells an engine to do.
type order struct {
	Death
	Hang  bool
	Wedge bool
	Fail  int
	Part  string
	Flood int
}

func tell(t testing.TB, baseURL string, o order) {
	t.Helper()
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: answerTime, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(baseURL+reportPath, "application/json", bytes.NewReader(body))
	if err != nil {
		return // it died before it could answer
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the fake engine does not obey: %s", resp.Status)
	}
}

// obey does what a test tells.
func (e *engine) obey(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch {
	case o.Hang:
		e.hung.Store(true)
	case o.Fail != 0:
		e.failing.Store(int64(o.Fail))
	case o.Wedge:
		e.wedge()
	case e.parent != nil:
		_ = e.parent.send(message{Order: &o})
	default:
		e.execute(o)
	}
	w.WriteHeader(http.StatusOK)
}

// execute does what a test tells the engine's first process.
func (e *engine) execute(o order) {
	switch {
	case o.Part != "":
		e.kill(o.Part)
		return
	case o.Flood > 0:
		go e.flood(o.Flood)
		return
	}
	time.AfterFunc(o.After, func() { e.die(o.Death) })
}

// tell answers with the report of the engine's first process.
func (e *engine) tell(w http.ResponseWriter) {
	own := e.report()
	if e.parent == nil {
		reply(w, http.StatusOK, own)
		return
	}
	first, err := e.parent.ask()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	first.ReadyAt, first.FirstAnswer = own.ReadyAt, own.FirstAnswer
	reply(w, http.StatusOK, first)
}

func (e *engine) report() Report {
	cwd, _ := os.Getwd()
	sid, _ := unix.Getsid(0)
	e.mu.Lock()
	signals, readyAt, firstAnswer := maps.Clone(e.signals), e.readyAt, e.firstAnswer
	e.mu.Unlock()
	return Report{
		Argv: e.argv, Env: os.Environ(), Cwd: cwd, PID: os.Getpid(), PPID: os.Getppid(), PGID: unix.Getpgrp(), SID: sid,
		Children: e.children, Parts: e.pids(""), Signals: signals, Files: openFiles(),
		ReadyAt: readyAt, FirstAnswer: firstAnswer,
	}
}
