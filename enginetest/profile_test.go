package enginetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// running finds one request in flight on any engine's metrics page.
var running = regexp.MustCompile(`(?m)^[^#].*(running|batch_current_size)\S* 1$`)

// quick makes a profile's own waits short.
func quick(p Profile) Behavior { return Behavior{Engine: p, Speed: 50} }

var profiles = []Profile{LlamaCPP, VLLM, SGLang, TGI, Custom}

func TestProfilePages(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		engine       Profile
		method, path string
		body         string
		args         []string
		want         int
		holds        string
	}{
		{engine: VLLM, path: "/version", want: 200, holds: `{"version":"0.32.0"}`},
		{engine: VLLM, path: "/ping", want: 200},
		{engine: VLLM, path: "/v1/models", want: 200, holds: `"root":"/models/m.gguf"`},
		{engine: VLLM, path: "/v1/models", args: []string{"--served-model-name", "a", "b"}, want: 200, holds: `"id":"a"`},
		{engine: VLLM, path: "/v1/models", args: []string{"--api-key", "k"}, want: 401},
		{engine: VLLM, path: "/metrics", args: []string{"--api-key", "k"}, want: 200, holds: `vllm:num_requests_running{engine="0",model_name="/models/m.gguf"} 0`},
		{engine: VLLM, path: "/server_info", want: 404},
		{engine: VLLM, method: "POST", path: "/v1/completions", body: `{"max_tokens":1}`, want: 200, holds: `"text":"This"`},
		{engine: VLLM, method: "POST", path: "/v1/completions", body: `{"model":"other"}`, want: 404, holds: "does not exist"},
		{engine: SGLang, path: "/server_info", want: 200, holds: `"version":"0.5.15"`},
		{engine: SGLang, path: "/model_info", want: 200, holds: `"model_path":"/models/m.gguf"`},
		{engine: SGLang, path: "/metrics", args: []string{"--api-key", "k"}, want: 200, holds: "sglang:num_queue_reqs{"},
		{engine: SGLang, path: "/server_info", args: []string{"--api-key", "k"}, want: 401},
		{
			engine: SGLang, method: "POST", path: "/generate", body: `{"text":"Hi","sampling_params":{"max_new_tokens":2}}`,
			want: 200, holds: `"text":"This is"`,
		},
		{engine: TGI, path: "/info", want: 200, holds: `"version":"3.3.6-dev0"`},
		{engine: TGI, path: "/", want: 200},
		{engine: TGI, path: "/info", args: []string{"--api-key", "k"}, want: 200, holds: `"model_id":"/models/m.gguf"`},
		{
			engine: TGI, method: "POST", path: "/generate", body: `{"inputs":"Hi","parameters":{"max_new_tokens":1}}`,
			want: 200, holds: `{"generated_text":"This"}`,
		},
		{engine: TGI, method: "POST", path: "/generate", args: []string{"--api-key", "k"}, body: `{}`, want: 401},
		{engine: Custom, path: "/api/version", want: 200, holds: `"version":"1.2.3"`},
		{engine: Custom, path: "/metrics", want: 200, holds: "server_requests_running 0"},
		{engine: Custom, method: "POST", path: "/v1/completions", body: `{}`, want: 200, holds: sentence},
	} {
		t.Run(fmt.Sprint(tc.engine, tc.path, len(tc.args)), func(t *testing.T) {
			t.Parallel()
			p := start(t, quick(tc.engine), tc.args...).waitReady(t)
			code, body := p.do(orElse(tc.method, http.MethodGet), tc.path, tc.body)
			if code != tc.want || !strings.Contains(body, tc.holds) {
				t.Errorf("got %d %s, want %d with %s", code, body, tc.want, tc.holds)
			}
			p.signal(t, syscall.SIGTERM)
			p.wait(t)
		})
	}
}

// TGI's series come with its first request.
func TestProfileTGIMetrics(t *testing.T) {
	t.Parallel()
	p := start(t, quick(TGI)).waitReady(t)
	if code, body := p.get("/metrics"); code != 200 || body != "" {
		t.Errorf("before a request: %d %q", code, body)
	}
	p.do(http.MethodPost, "/generate", `{"inputs":"Hi"}`)
	if code, body := p.get("/metrics"); code != 200 || !strings.Contains(body, "tgi_queue_size 0\n") {
		t.Errorf("after a request: %d %q", code, body)
	}
	p.signal(t, syscall.SIGTERM)
	p.wait(t)
}

// How each engine's port looks while it loads.
func TestProfileLoading(t *testing.T) {
	t.Parallel()
	for _, p := range profiles {
		t.Run(p.Program(), func(t *testing.T) {
			t.Parallel()
			b := quick(p)
			b.LoadTime, b.WarmUp = 2*time.Second, 2*time.Second // each is seen, also on a busy machine
			engine := start(t, b)
			refused, loading := false, false
			engine.eventually(t, "readiness", func() bool {
				code, _ := engine.get("/health")
				refused, loading = refused || code == 0, loading || code == http.StatusServiceUnavailable
				return code == http.StatusOK
			})
			if wantLoading := p == LlamaCPP || p == SGLang; loading != wantLoading || !refused && p != LlamaCPP {
				t.Errorf("refused: %v, 503: %v", refused, loading)
			}
			engine.signal(t, syscall.SIGTERM)
			engine.wait(t)
		})
	}
}

// vLLM has the port before it listens. It asks for SO_REUSEADDR, with which Linux lets another have it too, as long as
// nobody listens.
func TestProfileVLLMBindsEarly(t *testing.T) {
	t.Parallel()
	b := quick(VLLM)
	b.LoadTime = time.Hour
	p := start(t, b)
	port, err := strconv.Atoi(p.url[strings.LastIndex(p.url, ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	p.eventually(t, "the bind", func() bool {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		return unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}) != nil
	})
	if code, _ := p.get("/health"); code != 0 {
		t.Errorf("it answers %d", code)
	}
	killTree(t, p)
}

func TestProfileEnds(t *testing.T) {
	t.Parallel()
	term := func(t *testing.T, p *process) { p.waitReady(t).signal(t, syscall.SIGTERM) }
	ask := func(t *testing.T, p *process) { p.waitReady(t).do(http.MethodPost, "/v1/completions", "{}") }
	nothing := func(*testing.T, *process) {}
	early := func(line string) func(t *testing.T, p *process) {
		return func(t *testing.T, p *process) {
			p.eventually(t, "the load", func() bool { return strings.Contains(p.log.String(), line) })
			p.signal(t, syscall.SIGTERM)
		}
	}
	busy := func(t *testing.T, p *process) {
		p.waitReady(t)
		answered := make(chan int)
		go func() {
			code, _ := p.do(http.MethodPost, "/v1/completions", "{}")
			answered <- code
		}()
		p.eventually(t, "a request in flight", func() bool {
			_, body := p.get("/metrics")
			return running.MatchString(body)
		})
		p.signal(t, syscall.SIGTERM)
		if code := <-answered; code != http.StatusOK {
			t.Errorf("the request in flight got %d", code)
		}
	}
	loading, slow := Behavior{LoadTime: time.Hour}, Behavior{BusyRequests: 2 * time.Second}
	for _, tc := range []struct {
		name   string
		engine Profile
		b      Behavior
		args   []string
		act    func(t *testing.T, p *process)
		want   string
		log    string
	}{
		{name: "idle", engine: VLLM, act: term, want: "exit status 0", log: "shutdown triggered"},
		{name: "imports", engine: VLLM, b: Behavior{BindDelay: time.Hour, LogText: "loading\n"}, act: func(t *testing.T, p *process) {
			p.eventually(t, "the start", func() bool { return len(commandLines()[p.cmd.Process.Pid]) > 0 })
			p.signal(t, syscall.SIGTERM)
		}, want: "signal: terminated"},
		{name: "drain", engine: VLLM, b: slow, args: []string{"--shutdown-timeout", "20"}, act: busy, want: "exit status 0"},
		{name: "worker dies", engine: VLLM, b: Behavior{Answer: AnswerDie}, act: ask, want: "exit status 0", log: "died unexpectedly"},
		{name: "flag", engine: VLLM, b: Behavior{StrictFlags: true}, args: []string{"--bogus-flag"}, act: nothing, want: "exit status 2", log: "error: unrecognized arguments: --bogus-flag"},
		{name: "value", engine: VLLM, args: []string{"--seed"}, act: nothing, want: "exit status 2", log: "expected one argument"},
		{name: "port", engine: VLLM, b: Behavior{Bind: BindFail}, act: nothing, want: "exit status 1", log: "OSError: [Errno 98] Address already in use"},
		{name: "model", engine: VLLM, b: Behavior{CheckModel: true}, act: nothing, want: "exit status 1", log: "HFValidationError: Repo id must be in the form"},
		{name: "idle", engine: SGLang, act: term, want: "signal: killed", log: "Remaining number of requests 0."},
		{name: "loading", engine: SGLang, b: loading, act: early("server_args="), want: "signal: terminated"},
		{name: "drain", engine: SGLang, b: slow, act: busy, want: "signal: killed"},
		{name: "scheduler dies", engine: SGLang, b: Behavior{Answer: AnswerDie}, act: ask, want: "signal: killed", log: "Received sigquit from a child process"},
		{name: "flag", engine: SGLang, b: Behavior{StrictFlags: true}, args: []string{"--bogus-flag"}, act: nothing, want: "exit status 2", log: "unrecognized arguments"},
		{name: "port", engine: SGLang, b: Behavior{Bind: BindFail}, act: nothing, want: "exit status 1", log: "address already in use"},
		{name: "idle", engine: TGI, act: term, want: "exit status 0", log: "webserver terminated"},
		{name: "SIGHUP", engine: TGI, act: func(t *testing.T, p *process) { p.waitReady(t).signal(t, syscall.SIGHUP) }, want: "exit status 0"},
		{name: "loading", engine: TGI, b: loading, act: early("Waiting for shard"), want: "exit status 0"},
		{name: "drain", engine: TGI, b: slow, args: []string{"--graceful-termination-timeout", "900"}, act: busy, want: "exit status 0"},
		{name: "shard dies", engine: TGI, b: Behavior{Answer: AnswerDie}, act: ask, want: "exit status 1", log: "Error: ShardFailed"},
		{name: "router dies", engine: TGI, act: func(t *testing.T, p *process) {
			p.waitReady(t)
			KillPart(t, p.url, tgiRouter)
		}, want: "exit status 1", log: "Error: WebserverFailed"},
		{name: "flag", engine: TGI, b: Behavior{StrictFlags: true}, args: []string{"--bogus-flag"}, act: nothing, want: "exit status 2", log: "unexpected argument '--bogus-flag' found"},
		{name: "port", engine: TGI, b: Behavior{Bind: BindFail}, act: nothing, want: "exit status 1", log: "Error: WebserverFailed"},
		{name: "model", engine: TGI, b: Behavior{CheckModel: true}, act: nothing, want: "exit status 1", log: "Error: DownloadError"},
		{name: "idle", engine: Custom, act: term, want: "exit status 0"},
		{name: "loading", engine: Custom, b: loading, act: early("loading"), want: "signal: terminated"},
		{name: "drain", engine: Custom, b: slow, act: busy, want: "exit status 0"},
	} {
		t.Run(tc.engine.Program()+" "+tc.name, func(t *testing.T) {
			t.Parallel()
			tc.b.Engine, tc.b.Speed = tc.engine, 50
			p := start(t, tc.b, tc.args...)
			tc.act(t, p)
			if got := p.wait(t); got != tc.want {
				t.Errorf("it ended with %q, want %q; log:\n%s", got, tc.want, p.log.String())
			}
			p.eventually(t, "the log", func() bool { return strings.Contains(p.log.String(), tc.log) })
		})
	}
}

// From EngineCore's birth on, vLLM ignores SIGTERM until it is ready, and then is not ready either.
func TestProfileVLLMStuckByTerm(t *testing.T) {
	t.Parallel()
	b := quick(VLLM)
	b.LoadTime = 2 * time.Second
	p := start(t, b)
	p.eventually(t, "EngineCore", func() bool { return titled(vllmEngine, p.cmd.Process.Pid) != 0 })
	p.signal(t, syscall.SIGTERM)
	select {
	case <-p.exited:
		t.Errorf("it ended: %s", p.cmd.ProcessState)
	case <-time.After(b.LoadTime + 400*time.Millisecond):
	}
	if code, _ := p.get("/health"); code != 0 {
		t.Errorf("it answers %d", code)
	}
	killTree(t, p)
}

// With requests in flight and no --shutdown-timeout, vLLM waits until they hang up.
func TestProfileVLLMStalls(t *testing.T) {
	t.Parallel()
	b := quick(VLLM)
	b.BusyRequests = time.Hour
	p := start(t, b).waitReady(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprint(conn, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	p.eventually(t, "a request in flight", func() bool {
		_, body := p.get("/metrics")
		return strings.Contains(body, `vllm:num_requests_running{engine="0",model_name="/models/m.gguf"} 1`)
	})
	p.signal(t, syscall.SIGTERM)
	select {
	case <-p.exited:
		t.Error("it did not wait")
	case <-time.After(300 * time.Millisecond):
	}
	_ = conn.Close()
	if got := p.wait(t); got != "exit status 0" {
		t.Error(got)
	}
}

// What is left of each engine when its first process is killed.
func TestProfileTree(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	for _, tc := range []struct {
		engine   Profile
		parts    []string
		ownGroup bool
		outlives bool
	}{
		{VLLM, []string{"VLLM::EngineCore", "VLLM::Worker", "vllm-resource-tracker"}, false, true},
		{SGLang, []string{"sglang::detokenizer", "sglang::scheduler"}, false, false},
		{TGI, []string{"text-generation-router", "text-generation-server"}, true, true},
	} {
		t.Run(string(tc.engine), func(t *testing.T) {
			t.Parallel()
			p := start(t, quick(tc.engine)).waitReady(t)
			r := Inspect(t, p.url)
			if r.PID != p.cmd.Process.Pid {
				t.Errorf("report of pid %d, want %d", r.PID, p.cmd.Process.Pid)
			}
			var titles []string
			for title, pid := range r.Parts {
				titles = append(titles, title)
				pgid, err := unix.Getpgid(pid)
				if own := pgid == pid; err != nil || own != tc.ownGroup {
					t.Errorf("%s: own group: %v (%v)", title, own, err)
				}
				if !strings.HasPrefix(commandLines()[pid], title) {
					t.Errorf("%s is called %s", title, describe(pid))
				}
				if strings.Contains(title, "::") {
					if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || bytes.Trim(env, "\x00") != nil {
						t.Errorf("%s shows its environment %q (%v)", title, env, err)
					}
				}
			}
			if slices.Sort(titles); !slices.Equal(titles, tc.parts) {
				t.Errorf("parts %v, want %v", titles, tc.parts)
			}
			Kill(t, p.url, Death{Code: 7})
			p.eventually(t, "the end of the first process", func() bool { return !alive(r.PID) })
			for title, pid := range r.Parts {
				if !tc.outlives {
					p.eventually(t, title+" is gone", func() bool { return !alive(pid) })
				} else if !alive(pid) {
					t.Errorf("%s is gone", title)
				}
			}
			for _, pid := range r.Parts {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			if got := p.wait(t); got != "exit status 7" {
				t.Error(got)
			}
		})
	}
}

func TestProfileBadModel(t *testing.T) {
	t.Parallel()
	whole, config := safetensors(16, 16), `{"max_position_embeddings":2048}`
	for _, tc := range []struct {
		name    string
		engine  Profile
		weights []byte
		config  string
		args    []string
		end     string
		log     string
	}{
		{"whole", VLLM, whole, config, nil, "exit status 0", ""},
		{"cut in the header", VLLM, whole[:20], config, nil, "exit status 1", "invalid header length\n" + vllmCoreFailed},
		{"cut in the data", VLLM, whole[:len(whole)-1], config, nil, "exit status 1", "incomplete metadata, file not fully covered"},
		{"no config", VLLM, whole, "", nil, "exit status 1", "Invalid repository ID or local directory specified"},
		{
			"short context", VLLM, whole, config,
			[]string{"--max-model-len", "9999"},
			"exit status 1",
			"User-specified max_model_len (9999) is greater than the derived max_model_len",
		},
		{"cut in the header", SGLang, whole[:20], config, nil, "signal: killed", "Scheduler hit an exception"},
		{"no config", SGLang, whole, "", nil, "exit status 1", "Can't load the configuration"},
		{"cut in the header", TGI, whole[:20], config, nil, "exit status 1", "Error: ShardCannotStart"},
		{"no config", TGI, whole, "", nil, "exit status 1", "Error: DownloadError"},
	} {
		t.Run(tc.engine.Program()+" "+tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), tc.weights, 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.config != "" {
				if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(tc.config), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b := quick(tc.engine)
			b.CheckModel = true
			flag := map[Profile]string{VLLM: "--model", SGLang: "--model-path", TGI: "--model-id"}[tc.engine]
			p := start(t, b, append([]string{flag, dir}, tc.args...)...)
			if tc.end == "exit status 0" {
				p.waitReady(t).signal(t, syscall.SIGTERM)
			}
			if got := p.wait(t); got != tc.end || !strings.Contains(p.log.String(), tc.log) {
				t.Errorf("it ended with %q, want %q and %q; log:\n%s", got, tc.end, tc.log, p.log.String())
			}
		})
	}
}

// safetensors is a file with one tensor of size bytes of which there are n.
func safetensors(size, n int) []byte {
	header := fmt.Sprintf(`{"__metadata__":{"format":"pt"},"t":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}`, size, size)
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(data, header...), make([]byte, n)...)
}

// Two launchers' variables: TGI reads names that any shell may have.
func TestProfileTGIEnvironment(t *testing.T) {
	t.Parallel()
	none := func(string) (string, bool) { return "", false }
	env := func(name string) (string, bool) {
		value, ok := map[string]string{"HOSTNAME": "my-machine", "MODEL_ID": "gpt2", "PORT": "81"}[name]
		return value, ok
	}
	o, err := tgi{}.parse(nil, env, Behavior{})
	if err != nil || o.model != "gpt2" || o.port != "81" || o.host != "0.0.0.0" {
		t.Errorf("%+v, %v", o, err)
	}
	o, err = tgi{}.parse([]string{"--port=80", "--hostname", "127.0.0.1"}, none, Behavior{})
	if err != nil || o.model != "bigscience/bloom-560m" || o.port != "80" || o.host != "127.0.0.1" {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err = (tgi{}).parse([]string{"-p", "70000"}, none, Behavior{}); err == nil {
		t.Error("port 70000 passed")
	}
	if _, err = (vllm{}).parse([]string{"serve", "m"}, func(name string) (string, bool) { return "tcp://10.0.0.1:8000", name == "VLLM_PORT" }, Behavior{}); err == nil {
		t.Error("a URI in VLLM_PORT passed")
	}
}

func TestProfileVersionAndHelp(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		engine  Profile
		version []string
		help    []string
		entries int
	}{
		{VLLM, []string{"--version"}, []string{"serve", "--help=all"}, 50},
		{SGLang, []string{"version"}, []string{"serve", "--help"}, 40},
		{TGI, []string{"--version"}, []string{"--help"}, 40},
		{Custom, []string{"--version"}, []string{"--help"}, 6},
	} {
		path, a := Install(t, quick(tc.engine)), tc.engine.profile().about()
		version, err := exec.Command(path, tc.version...).Output()
		if err != nil || string(version) != a.asked {
			t.Errorf("%s: version %q (%v)", a.program, version, err)
		}
		help, err := exec.Command(path, tc.help...).Output()
		if err != nil || string(help) != a.help {
			t.Errorf("%s: help %q (%v)", a.program, help, err)
		}
		parse := parsePythonHelp
		if tc.engine == TGI {
			parse = parseClapHelp
		}
		if defs := parse(a.help); len(defs) < tc.entries {
			t.Errorf("%s: %d entries, want at least %d", a.program, len(defs), tc.entries)
		}
		if filepath.Base(path) != tc.engine.Program() {
			t.Errorf("installed as %s", path)
		}
	}
	path := Install(t, quick(VLLM))
	found, err := filepath.Glob(filepath.Join(filepath.Dir(path), "../lib/python3*/site-packages/vllm-0.32.0.dist-info/METADATA"))
	if err != nil || len(found) != 1 {
		t.Errorf("metadata: %v (%v)", found, err)
	}
}

func TestReadFlags(t *testing.T) {
	t.Parallel()
	line := readFlags(
		strings.Fields("m -tp 2 --served_model_name a b --no-enforce-eager --trust-remote-code --port=1 --odd --seed"),
		parsePythonHelp(vllmHelp),
	)
	for name, want := range map[string]string{
		"--tensor-parallel-size": "2", "--served-model-name": "a b", "--enforce-eager": "false", "--trust-remote-code": "true", "--port": "1",
	} {
		if got := line.values[name]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if !slices.Equal(line.positional, []string{"m"}) || !slices.Equal(line.unknown, []string{"--odd"}) || line.incomplete != "--seed" {
		t.Errorf("%+v", line)
	}
}

// titled is the pid of a descendant's process with that title, 0 when there is none.
func titled(title string, parent int) int {
	for pid, cmdline := range commandLines() {
		if strings.HasPrefix(cmdline, title) && parentOf(pid) == parent {
			return pid
		}
	}
	return 0
}

func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if err != nil || !ok || len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// killTree ends the processes of a vLLM, from the first one on.
func killTree(t *testing.T, p *process) {
	t.Helper()
	p.eventually(t, "the whole tree", func() bool {
		return titled("VLLM::Worker", titled(vllmEngine, p.cmd.Process.Pid)) != 0
	})
	tree := []int{p.cmd.Process.Pid}
	for i := 0; i < len(tree); i++ {
		for pid := range commandLines() {
			if parentOf(pid) == tree[i] {
				tree = append(tree, pid)
			}
		}
	}
	for _, pid := range tree {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	p.wait(t)
}
