package enginetest

import (
	_ "embed"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// sglang is "sglang serve", from its source of July 2026 (about v0.5.15); files are below python/sglang. Nobody here has
// run it.
//
// Port: closed until the schedulers have loaded, so that a conflict is found after the whole load (srt/entrypoints/
// http_server.py, launch_server: _launch_subprocesses, then uvicorn.run); then 503 until the warm-up request is answered.
//
// Pages: /health generates a token and polls for it once a second, so that 200 takes a second at least; it is 503
// after SIGTERM (http_server.py, health_generate). /server_info, /model_info; /metrics only with --enable-metrics. A key
// guards all but /health* and /metrics* (srt/utils/auth.py). The gauges are old: the scheduler sets them every 40 steps of a
// batch, and after the last one not before 30 seconds have passed (srt/managers, "During idle time").
//
// Tree: sglang::scheduler and sglang::detokenizer, named by setproctitle, killed by the kernel when the main process dies
// (srt/utils/common.py, kill_itself_when_parent_died).
//
// Signals: SIGTERM kills until the warm-up begins, which installs the handler (srt/managers/tokenizer_manager.py,
// auto_create_handle_loop). Then a watchdog looks every five seconds, waits for all requests without a limit, and kills
// the whole tree, itself included, by SIGKILL (sigterm_watchdog; #16484). A second SIGTERM does nothing.
// SGL_FORCE_SHUTDOWN skips the wait.
//
// Failures in a scheduler reach the main process as SIGQUIT, upon which it kills its tree and itself by SIGKILL
// (srt/entrypoints/engine.py, launch_phase_sigquit_handler).
type sglang struct{}

//go:embed sglang_help.txt
var sglangHelp string

func (sglang) about() about {
	return about{
		program: "sglang", dist: "sglang", version: "0.5.15", asked: "sglang version: 0.5.15\n", help: sglangHelp,
		server: "uvicorn", health: []string{"/health", "/health_generate"},
	}
}

func (sglang) parse(args []string, _ func(string) (string, bool), b Behavior) (options, error) {
	o := options{host: "127.0.0.1", port: "30000", slots: 2048}
	switch {
	case len(args) == 1 && args[0] == "version":
		o.version = true
		return o, nil
	case len(args) == 0 || args[0] != "serve":
		return o, &refusal{2, "usage: sglang [-h] {serve,generate,version} ...\nsglang: error: argument subcommand: invalid choice"}
	}
	line := readFlags(args[1:], parsePythonHelp(sglangHelp))
	o.values = line.values
	if o.help = line.values["--help"] != ""; o.help {
		return o, nil
	}
	if len(line.positional) > 0 && line.positional[0] == args[1] { // only in front: cli/serve.py
		o.values["--model-path"], line.positional = line.positional[0], line.positional[1:]
	}
	const usage = "sglang [-h] --model-path MODEL_PATH"
	if err := pythonRefusal(usage, "sglang", line, b, 0); err != nil {
		return o, err
	}
	if o.model = o.values["--model-path"]; o.model == "" {
		return o, &refusal{2, "usage: " + usage + "\nsglang: error: the following arguments are required: --model-path/--model"}
	}
	o.alias = o.model
	o.take(&o.alias, "--served-model-name")
	o.take(&o.host, "--host")
	o.take(&o.port, "--port")
	o.metrics = o.values["--enable-metrics"] == "true"
	if key := o.values["--api-key"]; key != "" {
		o.keys = []string{key}
	}
	return o, nil
}

func (sglang) run(e *engine) int {
	e.onQuit(func() { dieBySignal(syscall.SIGKILL) })
	time.Sleep(e.b.BindDelay)
	if !e.begin("server_args=ServerArgs(model_path='%s', port=%s)", e.opts.model, e.opts.port) {
		return 1
	}
	if _, hasConfig, exists := modelConfig(e.opts.model); e.b.CheckModel && !(hasConfig && exists) {
		fmt.Fprintf(os.Stderr, "OSError: Can't load the configuration of '%s'.\n", e.opts.model)
		return 1
	}
	if err := e.startParts(sglangParts(e.opts.number("--tensor-parallel-size", 1)), func(*member) { sglangFailed() }); err != nil {
		e.log('E', "%v", err)
		return 1
	}
	e.load()
	if why := brokenWeights(e); why != "" {
		e.log('E', "Scheduler hit an exception: Traceback (most recent call last):\nsafetensors_rust.SafetensorError: %s", why)
		sglangFailed()
	}
	stopped := make(chan struct{})
	e.onTerm(func(n int) {
		if n == 1 {
			close(stopped)
		}
	})
	if err := e.listen(); err != nil {
		fmt.Fprintf(os.Stderr, "ERROR:    [Errno 98] error while attempting to bind on address ('%s', %s): address already in use\n",
			e.opts.host, e.opts.port)
		return 1 // the parts go with it
	}
	go sglangMeasure(e)
	go func() {
		e.pass(e.b.WarmUp)
		e.isReady()
		e.log('I', "The server is fired up and ready to roll!")
	}()
	<-stopped
	sglangStop(e)
	return 0
}

// sglangFailed is what the main process does when a child sends it SIGQUIT.
func sglangFailed() {
	fmt.Fprintln(os.Stderr, "Received sigquit from a child process. It usually means the child failed.")
	dieBySignal(syscall.SIGKILL)
}

func sglangParts(schedulers int) []part {
	parts := []part{{Title: "sglang::detokenizer", Renamed: true, Python: true, Bound: true}}
	for i := range schedulers {
		title := "sglang::scheduler"
		if schedulers > 1 {
			title = fmt.Sprintf("sglang::scheduler_TP%d", i)
		}
		parts = append(parts, part{Title: title, Renamed: true, Python: true, Bound: true})
	}
	return parts
}

// sglangMeasure sets what the gauges show, as seldom as the scheduler does.
func sglangMeasure(e *engine) {
	steps := time.NewTicker(e.scaled(800 * time.Millisecond)) // 40 of 20 ms
	defer steps.Stop()
	var last time.Time
	for now := range steps.C {
		running, waiting := e.running(), e.waiting()
		if running+waiting > 0 || now.Sub(last) > e.scaled(30*time.Second) {
			last = now
			e.shownRunning.Store(int64(running))
			e.shownWaiting.Store(int64(waiting))
		}
	}
}

// sglangStop waits for the requests in flight, and ends the whole tree by SIGKILL.
func sglangStop(e *engine) {
	e.draining.Store(true)
	poll := e.scaled(5 * time.Second)
	time.Sleep(poll)
	for os.Getenv("SGL_FORCE_SHUTDOWN") == "" {
		left := e.inFlight.Load()
		e.log('I', "Gracefully exiting... Remaining number of requests %d.", left)
		if left == 0 {
			break
		}
		time.Sleep(poll)
	}
	e.finish(time.Second) // the last answers are on their way
	time.Sleep(e.b.SlowExit)
	dieBySignal(syscall.SIGKILL)
}

func (sglang) routes(e *engine) http.Handler {
	mux := http.NewServeMux()
	for _, path := range e.about.health {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if !e.ready.Load() || e.draining.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			time.Sleep(e.scaled(time.Second))
			e.healthy(w, r)
		})
	}
	for _, path := range []string{"GET /server_info", "GET /get_server_info"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusOK, object{
				"model_path": e.model(), "served_model_name": e.opts.alias, "host": e.opts.host,
				"tp_size": e.opts.number("--tensor-parallel-size", 1), "version": e.version(), "internal_states": []object{},
			})
		})
	}
	mux.HandleFunc("GET /model_info", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, object{"model_path": e.model(), "tokenizer_path": e.opts.model, "is_generation": true})
	})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, object{"object": "list", "data": []object{{
			"id": e.opts.alias, "object": "model", "created": e.began.Unix(), "owned_by": "sglang", "root": e.opts.alias,
		}}})
	})
	if e.opts.metrics && e.b.Metrics != MetricsOff {
		mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { e.serveMetrics(w, sglangSeries(e)) })
	}
	mux.HandleFunc("POST /generate", e.answering(e.sglangGenerate))
	mux.HandleFunc("POST /v1/completions", e.answering(e.openAICompletion))
	mux.HandleFunc("POST /v1/chat/completions", e.answering(e.chatCompletion))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusNotFound, object{"detail": "Not Found"})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := strings.HasPrefix(r.URL.Path, "/health") || strings.HasPrefix(r.URL.Path, "/metrics")
		if !open && !e.authorized(r) {
			reply(w, http.StatusUnauthorized, object{"error": "Unauthorized"})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// sglangSeries are those of srt/observability/metrics_collector.py, from the warm-up on.
func sglangSeries(e *engine) []sample {
	labels := fmt.Sprintf(`engine_type="unified",model_name=%q,pp_rank="0",tp_rank="0"`, e.opts.alias)
	return []sample{
		{name: "sglang:token_usage", kind: "gauge", help: "The token usage.", labels: labels},
		{name: "sglang:gen_throughput", kind: "gauge", help: "The generation throughput (token/s).", labels: labels},
		{
			name: "sglang:realtime_tokens_total", kind: "counter", help: "Tokens, updated on each log interval.",
			labels: labels + `,mode="decode"`, value: int(e.tokens.Load()) + e.steps(),
		},
		{
			name: "sglang:num_running_reqs", kind: "gauge", help: "The number of running requests.", labels: labels,
			value: int(e.shownRunning.Load()), requests: true,
		},
		{
			name: "sglang:num_queue_reqs", kind: "gauge", help: "The number of requests in the waiting queue.", labels: labels,
			value: int(e.shownWaiting.Load()), requests: true,
		},
	}
}

func (e *engine) sglangGenerate(w http.ResponseWriter, words int) {
	reply(w, http.StatusOK, object{"text": say(words), "meta_info": object{
		"id": "fake", "finish_reason": object{"type": stopReason(words, "length", "stop")},
		"prompt_tokens": 1, "completion_tokens": words,
	}})
}

func (sglang) fail(w http.ResponseWriter, code int, kind, message string) {
	reply(w, code, object{"object": "error", "message": message, "type": kind, "param": nil, "code": code})
}

// dieAnswering is the end of a scheduler, and with it of everything.
func (sglang) dieAnswering(e *engine, _ http.ResponseWriter) {
	for _, title := range []string{"sglang::scheduler", "sglang::scheduler_TP0"} {
		e.kill(title)
	}
	select {}
}

func (sglang) line(_ *engine, _ byte, text string) string {
	return fmt.Sprintf("[%s] %s", time.Now().Format(time.DateTime), text)
}
