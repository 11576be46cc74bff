package provisioner

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/settings"
)

// polite is a server that answers what it has begun. It counts its SIGTERMs in a file beside it, and takes as long for a request
// as its path says, in milliseconds.
const polite = `
import http.server, os, signal, socketserver, sys, threading, time
here = os.path.dirname(os.path.abspath(__file__))
def told(*_):
    with open(os.path.join(here, "terms"), "a") as f: f.write("TERM\n")
    if "deaf" not in sys.argv: threading.Thread(target=server.shutdown).start()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/health":
            open(os.path.join(here, "asked"), "w").close()
            while os.path.exists(os.path.join(here, "asked")) and "deaf" not in sys.argv: time.sleep(0.005)
        self.send_response(200); self.send_header("Content-Length", "4"); self.end_headers()
        self.wfile.write(b"done")
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
server = Server((sys.argv[1], int(sys.argv[2])), Handler)
signal.signal(signal.SIGTERM, told)
open(os.path.join(here, "pid"), "w").write(str(os.getpid()))
server.serve_forever(0.01)
server.socket.close()
server.server_close()
`

// wrapped is a replica whose server is started by a script, in which $server stands for the server's command line.
func wrapped(t *testing.T, script string, args ...string) ProvisionConfig {
	t.Helper()
	cfg := pythonConfig(t, polite)
	command := cfg.Custom.Command
	path := filepath.Join(cfg.Dir, "run.sh")
	writeProgram(t, path, "#!/bin/sh\n"+strings.ReplaceAll(script, "$server", command[0]+" "+command[1]+` "$1" "$2" `+strings.Join(args, " "))+"\n")
	cfg.Custom.Command = append([]string{path}, command[2:]...)
	cfg.Stop.Grace = settings.Duration(patience)
	return cfg
}

// slowRequest begins a request and returns what becomes of it. finish lets the server answer.
func slowRequest(t *testing.T, p *EngineProvisioner) (finish func(), answer <-chan string) {
	t.Helper()
	asked := filepath.Join(p.cfg.Dir, "asked")
	result := make(chan string, 1)
	url := p.handoff.URL
	go func() {
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get(url + "/slow")
		if err != nil {
			result <- err.Error()
			return
		}
		_ = resp.Body.Close()
		result <- resp.Status
	}()
	eventually(t, "the request has arrived", func() bool { _, err := os.Stat(asked); return err == nil })
	return func() { _ = os.Remove(asked) }, result
}

// terms is how often the server got SIGTERM.
func terms(p *EngineProvisioner) int {
	data, _ := os.ReadFile(filepath.Join(p.cfg.Dir, "terms"))
	return strings.Count(string(data), "TERM")
}

func serverPID(t *testing.T, p *EngineProvisioner) int {
	t.Helper()
	pid, err := strconv.Atoi(string(mustRead(t, filepath.Join(p.cfg.Dir, "pid"))))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// A server gets one SIGTERM and the grace period, whoever its parent is and however that ends.
func TestServerBehindAWrapper(t *testing.T) {
	t.Parallel()
	const ended = "\necho ended"
	for name, c := range map[string]struct {
		script string
		noted  bool
	}{
		"exec":                         {script: "exec $server"},
		"no exec":                      {script: "$server" + ended, noted: true},
		"in a session of its own":      {script: "setsid -w $server" + ended, noted: true},
		"two of them":                  {script: "sh -c '$server; true' sh \"$1\" \"$2\"" + ended, noted: true},
		"forwards and waits":           {script: "$server &\npid=$!\ntrap 'kill $pid' TERM\nwait\nwait" + ended},
		"forwards and does not wait":   {script: "$server &\npid=$!\ntrap 'kill $pid; exit' TERM\nwait" + ended},
		"ends with 0 and says nothing": {script: "trap 'exit 0' TERM\n$server &\nwait", noted: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, j := ready(t, wrapped(t, c.script))
			server := serverPID(t, p)
			finish, answer := slowRequest(t, p)
			stopped := make(chan error, 1)
			go func() { stopped <- p.Stop(bounded(t)) }()
			eventually(t, "the server hears of it", func() bool { return terms(p) > 0 })
			finish()
			if got := <-answer; got != "200 OK" {
				t.Errorf("the client got %s", got)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			if n := terms(p); n != 1 {
				t.Errorf("%d times SIGTERM", n)
			}
			if notes := j.notes(); strings.Contains(notes, `start it with "exec"`) != c.noted || strings.Contains(notes, "killed") {
				t.Errorf("notes: %s", notes)
			}
			if alive(server) {
				t.Error("the server is alive")
			}
			nothingLeft(t, p)
			wantStates(t, j, StatePreparing, StateStarting, StateReady, StateDraining, StateStopping, StateStopped)
		})
	}
}

// The grace period ends for the server, too.
func TestDeafServerBehindAWrapper(t *testing.T) {
	t.Parallel()
	cfg := wrapped(t, "$server\necho ended", "deaf")
	cfg.Stop.Grace = settings.Duration(2 * time.Second)
	p, _ := ready(t, cfg)
	server := serverPID(t, p)
	if err := p.Stop(bounded(t)); !errors.Is(err, ErrKilled) {
		t.Errorf("Stop: %v", err)
	}
	if n := terms(p); n != 1 || alive(server) {
		t.Errorf("%d times SIGTERM, alive: %v", n, alive(server))
	}
	nothingLeft(t, p)
}

// A stop by another program: the manager whose child the wrapper is sees its end, and leaves the server to that program.
func TestAnotherProgramStopsAServerBehindAWrapper(t *testing.T) {
	t.Parallel()
	p, j := ready(t, wrapped(t, "$server\necho ended"))
	other, err := Attach(p.cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	finish, answer := slowRequest(t, p)
	stopped := make(chan error, 1)
	go func() { stopped <- other.Stop(bounded(t)) }()
	eventually(t, "the server hears of it", func() bool { return terms(p) > 0 })
	finish()
	if got := <-answer; got != "200 OK" {
		t.Errorf("the client got %s", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	awaitDone(t, p)
	if err := p.Err(); err != nil || terms(p) != 1 {
		t.Errorf("%v, %d times SIGTERM", err, terms(p))
	}
	wantStates(t, j, StatePreparing, StateStarting, StateReady, StateStopping, StateStopped)
	nothingLeft(t, p)
}

// A wrapper that dies leaves a server that nobody watches. It is ended as by a stop: what it has begun is answered.
func TestWrapperDies(t *testing.T) {
	t.Parallel()
	for name, found := range map[string]bool{"watched": false, "found later": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, j := ready(t, wrapped(t, "$server\necho ended"))
			server := serverPID(t, p)
			finish, answer := slowRequest(t, p)
			pid := p.Status().PID
			if found {
				p.Release()
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			watched := p
			if found {
				_, _ = p.run.host().Leader.Child().Wait()
				var err error
				if watched, err = Attach(p.cfg.StateDir, poolR0); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the server hears of it", func() bool { return terms(p) > 0 })
			finish()
			if got := <-answer; got != "200 OK" {
				t.Errorf("the client got %s", got)
			}
			awaitDone(t, watched)
			var exit *ExitError
			if err := watched.Err(); !errors.As(err, &exit) || !exit.Ready && !found {
				t.Errorf("%v", err)
			}
			if n := terms(p); n != 1 || alive(server) {
				t.Errorf("%d times SIGTERM, alive: %v", n, alive(server))
			}
			if notes := j.notes(); !found && !strings.Contains(notes, `start it with "exec"`) {
				t.Errorf("notes: %s", notes)
			}
			nothingLeft(t, p)
		})
	}
}

// An engine that sends itself to the background is told so, once, and not tried again.
func TestDaemonIsToldToStay(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"listens":            "$server &\nwhile ! [ -e \"${0%/*}/pid\" ]; do sleep 0.01; done",
		"would listen later": "setsid sleep 600 &",
		"by nohup":           "nohup sleep 600 >/dev/null 2>&1 &",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := wrapped(t, script)
			if name == "listens" {
				cfg.Custom.Health = "/never" // so that it ends while it loads
			}
			p, j := started(t, cfg)
			awaitDone(t, p)
			wantText(t, p.Err(), "exited with code 0", "went on in the background", "stay in the foreground", `"exec"`)
			var exit *ExitError
			if !errors.As(p.Err(), &exit) || exit.Retry {
				t.Errorf("%+v", exit)
			}
			if notes := j.notes(); strings.Contains(notes, "killed") {
				t.Errorf("notes: %s", notes)
			}
			nothingLeft(t, p)
		})
	}
}
