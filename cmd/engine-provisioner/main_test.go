package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/hubtest"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/node"
)

// runner runs the tests and fails when a fake engine is left behind.
type runner struct{ m *testing.M }

func (r runner) Run() int { return enginetest.Run(r.m) }

func TestMain(m *testing.M) {
	enginetest.Main()
	testscript.Main(runner{m}, map[string]func(){"engine-provisioner": main, busyName: busyMain})
}

// patience is for a machine that is busy with other tests; nothing waits so long for nothing.
const patience = 2 * time.Minute

// TestScripts runs the scripts of testdata/script. Beside testscript's own commands they know:
//
//	engine NAME [JSON]   install a fake engine with the behaviour
//	config FILE ENGINE [REPLICAS] [YAML-LINE]...  write a pools file; $PORT is its first port
//	ep STATUS ARG...     run engine-provisioner and compare its exit status
//	epstart NAME ARG...  run it in the background, with its output in NAME.out and NAME.err
//	signal NAME SIGNAL   send it a signal
//	epwait NAME STATUS   wait for its end
//	waitfor FILE REGEXP  wait until the file matches
//	enginepid VAR FILE   set a variable to the pid of a status of one replica in JSON
//	awaitdeath PID       wait until the process has died
//	gone PID...          fail if one of the processes is alive
//	scrape FILE PAGE     get the metrics whose URL the file tells
//	jsonlines FILE       fail unless each line is a JSON object
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			t, ok := env.T().(testing.TB)
			if !ok {
				return errors.New("not run by the testing package")
			}
			env.Values[stateKey{}] = &scriptState{t: t, running: map[string]*background{}, env: env}
			env.Setenv("PORT", strconv.Itoa(enginetest.FreePort(t, 10)))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
			env.Setenv("NO_COLOR", "1")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector sleeps for a second at each exit
			schema, err := filepath.Abs("../../config.schema.json")
			env.Setenv("SCHEMA", schema)
			env.Defer(func() { stopDetached(t, env.WorkDir) })
			return err
		},
		Condition: func(name string) (bool, error) {
			if name != "gpu" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			_, err := node.GPUs(t.Context())
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"engine": cmdEngine, "config": cmdConfig, "ep": cmdEP, "epstart": cmdStart, "signal": cmdSignal,
			"epwait": cmdWait, "waitfor": cmdWaitFor, "enginepid": cmdEnginePID, "gone": cmdGone, "awaitdeath": cmdAwaitDeath, "jsonlines": cmdJSONLines,
			"scrape": cmdScrape, "hub": cmdHub,
		},
	})
}

// stopDetached ends what a script that failed has left detached.
func stopDetached(t testing.TB, dir string) {
	states, err := filepath.Glob(filepath.Join(dir, "*", ".runtime"))
	if err != nil {
		t.Error(err)
	}
	for _, state := range append(states, filepath.Join(dir, ".runtime"), filepath.Join(dir, "elsewhere")) {
		all, _ := fleet.Statuses(state)
		for _, s := range all {
			if p, err := provisioner.Attach(state, s.ID()); err == nil {
				t.Logf("%s/%s runs without a manager; the test's end stops it", s.Pool, s.Replica)
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_ = p.Stop(ctx)
			}
		}
	}
}

type stateKey struct{}

// scriptState is what the commands of one script share.
type scriptState struct {
	t       testing.TB
	env     *testscript.Env
	running map[string]*background
}

type background struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func stateOf(ts *testscript.TestScript) *scriptState {
	state, _ := ts.Value(stateKey{}).(*scriptState)
	return state
}

func cmdEngine(ts *testscript.TestScript, _ bool, args []string) {
	b := enginetest.Behavior{Lifetime: 20 * time.Minute}
	if len(args) > 1 {
		ts.Check(json.Unmarshal([]byte(args[1]), &b))
	}
	exe, err := os.Executable()
	ts.Check(err)
	ts.Check(enginetest.InstallAt(ts.MkAbs(args[0]), exe, b))
}

func cmdConfig(ts *testscript.TestScript, _ bool, args []string) {
	replicas := "1"
	var more []string
	if len(args) > 2 {
		replicas, more = args[2], args[3:]
	}
	ts.Check(os.WriteFile(ts.MkAbs("model.gguf"), []byte(enginetest.GGUF), 0o600))
	text := fmt.Sprintf("pools:\n  - id: default\n    engine: llamacpp\n    replicas: %s\n    port: %s\n"+
		"    model: {id: model.gguf}\n    gpu: none\n    provisioning: {binary: {path: ./%s}}\n", replicas, ts.Getenv("PORT"), args[1])
	for _, line := range more {
		if strings.HasPrefix(line, "model:") {
			text = strings.Replace(text, "    model: {id: model.gguf}\n", "", 1)
		}
		if strings.HasPrefix(line, "gpu:") {
			text = strings.Replace(text, "    gpu: none\n", "", 1)
		}
		text += "    " + line + "\n"
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// cmdHub starts a hub that has a repository org/chat with the named files, and points the variables of the hub at it.
func cmdHub(ts *testscript.TestScript, _ bool, args []string) {
	hub := hubtest.New()
	ts.Defer(hub.Close)
	for _, name := range args {
		hub.Add("org/chat", name, append([]byte(enginetest.GGUF), make([]byte, 1_000_000)...))
	}
	ts.Setenv("HF_ENDPOINT", hub.API.URL)
	ts.Setenv("HF_HOME", ts.MkAbs("hf"))
}

func cmdEP(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("engine-provisioner", args[1:]...)
	checkStatus(ts, err, args[0])
}

func checkStatus(ts *testscript.TestScript, err error, want string) {
	status := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(status) != want {
		ts.Fatalf("exit status %d, want %s", status, want)
	}
}

func cmdStart(ts *testscript.TestScript, _ bool, args []string) {
	state := stateOf(ts)
	path := ""
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		if name := filepath.Join(dir, "engine-provisioner"); path == "" {
			if _, err := os.Stat(name); err == nil {
				path = name
			}
		}
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, v := range state.env.Vars { // with the values that the script has given since
		name, _, _ := strings.Cut(v, "=")
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := os.Create(ts.MkAbs(args[0] + ".out"))
	ts.Check(err)
	defer out.Close()
	errs, err := os.Create(ts.MkAbs(args[0] + ".err"))
	ts.Check(err)
	defer errs.Close()
	cmd.Stdout, cmd.Stderr = out, errs
	ts.Check(cmd.Start())
	b := &background{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState says it
		close(b.done)
	}()
	state.running[args[0]] = b
	ts.Defer(func() {
		// A script that failed half-way: two signals stop everything at once.
		for range 2 {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-b.done:
			case <-time.After(2 * time.Second):
			}
		}
		_ = cmd.Process.Kill()
		<-b.done
		if state.t.Failed() {
			state.t.Logf("%s: %v; its stderr:\n%s", args[0], cmd.ProcessState, ts.ReadFile(args[0]+".err"))
		}
	})
}

func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	sig := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}[args[1]]
	if b, ok := stateOf(ts).running[args[0]]; ok {
		ts.Check(b.cmd.Process.Signal(sig))
		return
	}
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Check(syscall.Kill(pid, sig))
}

func cmdWait(ts *testscript.TestScript, _ bool, args []string) {
	b := stateOf(ts).running[args[0]]
	select {
	case <-b.done:
	case <-time.After(patience):
		ts.Fatalf("%s does not end; its stderr:\n%s", args[0], ts.ReadFile(args[0]+".err"))
	}
	if status := b.cmd.ProcessState.ExitCode(); strconv.Itoa(status) != args[1] {
		ts.Fatalf("exit status %d, want %s; stdout:\n%sstderr:\n%s", status, args[1], ts.ReadFile(args[0]+".out"), ts.ReadFile(args[0]+".err"))
	}
}

func cmdWaitFor(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[1])
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if data, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && want.Match(data) {
			return
		}
	}
	data, _ := os.ReadFile(ts.MkAbs(args[0]))
	ts.Fatalf("%s does not match %q:\n%s", args[0], args[1], data)
}

func cmdEnginePID(ts *testscript.TestScript, _ bool, args []string) {
	var status struct {
		PID int `json:"pid"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &status))
	if status.PID == 0 {
		ts.Fatalf("no pid in %s", ts.ReadFile(args[1]))
	}
	ts.Setenv(args[0], strconv.Itoa(status.PID))
}

func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	for _, arg := range args {
		pid, err := strconv.Atoi(arg)
		ts.Check(err)
		alive := func() bool {
			stat, err := procfs.ReadStat(pid) // an orphan that nobody has reaped yet is a zombie
			return err == nil && !stat.Dead()
		}
		if neg != alive() {
			ts.Fatalf("process %d alive: %t", pid, alive())
		}
	}
}

func cmdAwaitDeath(ts *testscript.TestScript, _ bool, args []string) {
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if stat, err := procfs.ReadStat(pid); err != nil || stat.Dead() {
			return
		}
	}
	ts.Fatalf("process %d is still alive", pid)
}

func cmdJSONLines(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if text == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	for line := range strings.Lines(text) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			ts.Fatalf("cannot read %q: %v", line, err)
		}
	}
}

func cmdScrape(ts *testscript.TestScript, _ bool, args []string) {
	url := regexp.MustCompile(`http://\S+/metrics`).FindString(ts.ReadFile(args[0]))
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	ts.Check(err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), page, 0o600))
}

// runHere runs the command in this process.
func runHere(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(context.Background(), args, streams{strings.NewReader(""), &out, &errs})
	return status, out.String(), errs.String()
}

// A static build says that it is one, and what it lacks.
func TestVersionOfTheBuild(t *testing.T) {
	t.Parallel()
	for tags, want := range map[string]bool{"": false, "netgo": false, "netgo,static": true, "static": true, "nonstatic": false} {
		info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "-tags", Value: tags}, {Key: "vcs.revision", Value: "abc"}}}
		v := versionOf(info)
		if v.Static != want || strings.Contains(v.String(), "static") != want || v.Revision != "abc" {
			t.Errorf("%q: %s, %+v", tags, v, v)
		}
	}
	if v := versionOf(nil); v.Version != "(devel)" || v.Static {
		t.Errorf("%+v", v)
	}
}
