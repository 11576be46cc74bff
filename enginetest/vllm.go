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

// vllm is "vllm serve", version 0.32.0. "Measured" below is a run of that version on a CPU; files are those of its source.
//
// Port: bound early, and refused until the engine is ready (entrypoints/launchers/launcher.py: bind, and listen only in
// serve; measured). A conflict is found after the imports.
//
// Pages: /health is 200 or 503 with an empty body (entrypoints/serve/instrumentator/health.py), /version, /metrics
// always, /v1/models. The key guards /v1 and its like only (entrypoints/serve/middleware/authenticate.py).
//
// Tree: the API server, Python's resource tracker, VLLM::EngineCore and its VLLM::Worker, all in one process group; the
// names by setproctitle. A worker sees the end of EngineCore by a pipe (v1/executor/multiproc_executor.py); nobody sees
// the end of the API server (#55510; measured: alive 40 seconds later).
//
// Signals, measured: during the imports SIGTERM kills; from EngineCore's birth until it is ready SIGTERM does nothing,
// and a minute later the tree is still there; idle, the exit status is 0 within half a second. With requests in flight
// their tokens stop, clients get neither data nor an end, and the exit waits for them to hang up; with
// --shutdown-timeout (#36666) they are answered in full, and the exit comes about five seconds later. A second signal
// is ignored (launcher.py, signal_handler).
//
// EngineCore or a worker dead, measured: the request in flight gets a 500, /health is 503 within 60 ms, and the server
// ends by itself after five seconds with status 0 (#48966).
type vllm struct{}

//go:embed vllm_help.txt
var vllmHelp string

func (vllm) about() about {
	return about{
		program: "vllm", dist: "vllm", version: "0.32.0", asked: "0.32.0\n", help: vllmHelp, server: "uvicorn",
		health: []string{"/health", "/ping"},
	}
}

const (
	vllmEngine  = "VLLM::EngineCore"
	vllmTracker = "vllm-resource-tracker"
)

func (vllm) parse(args []string, lookup func(string) (string, bool), b Behavior) (options, error) {
	o := options{host: "0.0.0.0", port: "8000", slots: 256, checksName: true, metrics: true}
	if len(args) == 1 && (args[0] == "--version" || args[0] == "-v") {
		o.version = true
		return o, nil
	}
	if len(args) == 0 || args[0] != "serve" {
		return o, &refusal{2, "usage: vllm [-h] [-v] {chat,complete,serve,launch,bench,collect-env,run-batch} ...\n" +
			"vllm: error: argument subparser: invalid choice"}
	}
	if len(args) > 1 && strings.HasPrefix(args[1], "--help") {
		o.help = true
		return o, nil
	}
	line := readFlags(args[1:], parsePythonHelp(vllmHelp))
	if err := pythonRefusal("vllm serve [model_tag] [options]", "vllm serve", line, b, 1); err != nil {
		return o, err
	}
	o.values = line.values
	o.model = "Qwen/Qwen3-0.6B" // config/model.py: its silent default
	if len(line.positional) > 0 {
		o.model = line.positional[0]
	}
	o.alias = o.model
	o.take(&o.model, "--model")
	o.take(&o.host, "--host")
	o.take(&o.port, "--port")
	if names := strings.Fields(o.values["--served-model-name"]); len(names) > 0 {
		o.alias = names[0]
	}
	o.keys = strings.Fields(o.values["--api-key"])
	if key, ok := lookup("VLLM_API_KEY"); ok && len(o.keys) == 0 {
		o.keys = []string{key}
	}
	// envs.py: Kubernetes injects such a variable for a service called vllm.
	if port, ok := lookup("VLLM_PORT"); ok && strings.Contains(port, "://") {
		return o, &refusal{1, fmt.Sprintf("ValueError: VLLM_PORT '%s' appears to be a URI. This may be caused by a Kubernetes "+
			"service discovery issue,check the warning in: https://docs.vllm.ai/en/stable/serving/env_vars.html", port)}
	}
	return o, nil
}

func (vllm) run(e *engine) int {
	e.onQuit(func() { dieBySignal(syscall.SIGQUIT) })
	time.Sleep(e.b.BindDelay)
	if !e.begin("vLLM API server version %s, model %s", e.about.version, e.opts.model) {
		return 1
	}
	fd, err := e.bindOnly()
	if err != nil {
		fmt.Fprintln(os.Stderr, "OSError: [Errno 98] Address already in use")
		return 1
	}
	if why := vllmBadModel(e); why != "" {
		fmt.Fprintln(os.Stderr, why)
		return 1
	}
	e.onTerm(func(n int) {
		e.turn.Lock()
		defer e.turn.Unlock()
		switch {
		case n > 1:
		case e.ready.Load():
			go vllmStop(e)
		default:
			e.stuck = true // neither ready nor gone, ever
		}
	})
	if err := e.startParts(vllmParts(e.opts.number("--tensor-parallel-size", 1)), func(p *member) { vllmLost(e, p) }); err != nil {
		e.log('E', "%v", err)
		return 1
	}
	go func() {
		e.load()
		if why := brokenWeights(e); why != "" {
			fmt.Fprintf(os.Stderr, "safetensors_rust.SafetensorError: %s\n%s\n", why, vllmCoreFailed)
			e.endParts(e.scaled(5*time.Second), e.parts)
			e.exit <- 1
			return
		}
		e.turn.Lock()
		defer e.turn.Unlock()
		if e.stuck {
			return
		}
		if err := e.listenOn(fd); err != nil {
			e.log('E', "%v", err)
			e.exit <- 1
			return
		}
		e.isReady()
		e.log('I', "Starting vLLM server on %s", e.url())
	}()
	return <-e.exit
}

// Where the cause is in the child, the parent ends with this (v1/engine/utils.py).
const vllmCoreFailed = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"

func vllmParts(workers int) []part {
	engine := part{Title: vllmEngine, Renamed: true, Python: true}
	for i := range workers {
		title := "VLLM::Worker"
		if workers > 1 {
			title = fmt.Sprintf("VLLM::Worker_TP%d", i)
		}
		engine.Parts = append(engine.Parts, part{Title: title, Renamed: true, Python: true, Watches: true})
	}
	return []part{{Title: vllmTracker, Python: true, Deaf: true}, engine}
}

// vllmLost is what the API server does when a process of the engine ends: 503 at once, the end after a while.
func vllmLost(e *engine, p *member) {
	if p.title != vllmEngine || e.draining.Load() {
		return
	}
	if !e.ready.Load() {
		fmt.Fprintln(os.Stderr, vllmCoreFailed)
		e.endParts(0, e.parts)
		e.exit <- 1
		return
	}
	e.dead.Store(true)
	e.log('E', "Engine core proc EngineCore died unexpectedly, shutting down client.")
	time.Sleep(e.scaled(5 * time.Second)) // launcher.py, watchdog_loop
	e.endParts(0, e.parts)
	e.exit <- 0
}

func vllmStop(e *engine) {
	e.draining.Store(true)
	e.log('I', "[shutdown] API server: shutdown triggered")
	limit := time.Duration(e.opts.number("--shutdown-timeout", 0)) * time.Second
	busy := e.inFlight.Load() > 0
	switch {
	case !busy:
	case limit == 0:
		close(e.stopping)
		_ = e.listener.Close()
		e.busy.Lock()
	default:
		e.finish(limit)
		time.Sleep(e.scaled(4300 * time.Millisecond))
	}
	time.Sleep(e.b.SlowExit)
	e.endParts(e.scaled(5*time.Second), e.parts)
	e.exit <- 0
}

func (vllm) routes(e *engine) http.Handler {
	mux := http.NewServeMux()
	for _, path := range e.about.health {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if e.dead.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			e.healthy(w, r)
		})
	}
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, object{"version": e.version()})
	})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, object{"object": "list", "data": []object{{
			"id": e.opts.alias, "object": "model", "created": e.began.Unix(), "owned_by": "vllm",
			"root": e.model(), "parent": nil, "max_model_len": e.opts.number("--max-model-len", 2048),
		}}})
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if e.b.Metrics == MetricsOff {
			http.NotFound(w, r)
			return
		}
		e.serveMetrics(w, vllmSeries(e))
	})
	mux.HandleFunc("POST /v1/completions", e.vllmAnswering(e.openAICompletion))
	mux.HandleFunc("POST /v1/chat/completions", e.vllmAnswering(e.chatCompletion))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusNotFound, object{"detail": "Not Found"})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") && !e.authorized(r) {
			reply(w, http.StatusUnauthorized, object{"error": "Unauthorized"})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// vllmAnswering refuses what comes after the engine's death, and gives an empty answer to what comes during the drain
// (v1/engine/core.py aborts it).
func (e *engine) vllmAnswering(next func(http.ResponseWriter, int)) http.HandlerFunc {
	answering := e.answering(next)
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case e.dead.Load():
			vllmDead(e, w)
		case e.draining.Load():
			next(w, 0)
		default:
			answering(w, r)
		}
	}
}

// vllmSeries are there from the start on, with the labels engine and model_name (v1/metrics/loggers.py; measured).
func vllmSeries(e *engine) []sample {
	labels := fmt.Sprintf(`engine="0",model_name=%q`, e.opts.alias)
	running := sample{name: "vllm:num_requests_running", kind: "gauge", help: "Number of requests in model execution batches.", labels: labels, value: e.running(), requests: true}
	waiting := sample{name: "vllm:num_requests_waiting", kind: "gauge", help: "Number of requests waiting to be processed.", labels: labels, value: e.waiting(), requests: true}
	series := []sample{
		{name: "vllm:kv_cache_usage_perc", kind: "gauge", help: "KV-cache usage. 1 means 100 percent usage.", labels: labels},
		{name: "vllm:prompt_tokens_total", kind: "counter", help: "Number of prefill tokens processed.", labels: labels},
		{name: "vllm:generation_tokens_total", kind: "counter", help: "Number of generation tokens processed.", labels: labels, value: int(e.tokens.Load()) + e.steps()},
		{name: "vllm:num_preemptions_total", kind: "counter", help: "Cumulative number of preemption from the engine.", labels: labels},
		{name: "vllm:engine_sleep_state", kind: "gauge", help: "Engine sleep state.", labels: labels + `,sleep_state="awake"`, value: 1},
	}
	if e.opts.values["--disable-log-stats"] == "true" {
		return []sample{{name: "process_resident_memory_bytes", kind: "gauge", help: "Resident memory size in bytes."}}
	}
	return append(series, running, waiting)
}

func (vllm) fail(w http.ResponseWriter, code int, kind, message string) {
	reply(w, code, object{"error": object{"message": message, "type": kind, "param": nil, "code": code}})
}

// vllmDead is what a request gets whose engine is gone.
func vllmDead(e *engine, w http.ResponseWriter) {
	e.profile.fail(w, http.StatusInternalServerError, "InternalServerError",
		"EngineCore encountered an issue. See stack trace (above) for the root cause.")
}

// dieAnswering is the end of a worker, which takes EngineCore along.
func (vllm) dieAnswering(e *engine, w http.ResponseWriter) {
	title := "VLLM::Worker"
	if e.opts.number("--tensor-parallel-size", 1) > 1 {
		title += "_TP0"
	}
	e.kill(title)
	for !e.dead.Load() {
		time.Sleep(time.Millisecond)
	}
	vllmDead(e, w)
}

func (vllm) line(_ *engine, level byte, text string) string {
	name := map[byte]string{'I': "INFO", 'W': "WARNING", 'E': "ERROR"}[level]
	return fmt.Sprintf("(APIServer pid=%d) %s %s [api_server.py:120] %s", os.Getpid(), name, time.Now().Format("01-02 15:04:05"), text)
}

// vllmBadModel is what the API server itself finds out about the model, before EngineCore is born (measured).
func vllmBadModel(e *engine) string {
	limit, hasConfig, exists := modelConfig(e.opts.model)
	switch {
	case !e.b.CheckModel:
		return ""
	case !exists:
		return fmt.Sprintf("huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "+
			"'namespace/repo_name': '%s'. Use `repo_type` argument if needed.", e.opts.model)
	case !hasConfig:
		return fmt.Sprintf("ValueError: Invalid repository ID or local directory specified: '%s'.", e.opts.model)
	}
	if asked := e.opts.number("--max-model-len", 0); limit > 0 && asked > limit {
		return fmt.Sprintf("pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"+
			"  Value error, User-specified max_model_len (%d) is greater than the derived max_model_len "+
			"(max_position_embeddings=%d or model_max_length=None in model's config.json).", asked, limit)
	}
	return ""
}
