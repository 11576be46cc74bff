package enginetest

import (
	_ "embed"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"time"
)

// llamacpp is llama.cpp's llama-server, as measured on Debian's b11669.
type llamacpp struct{}

// llamaHelp is an extract of llama-server's own help. It is also the table by which command lines are read.
//
//go:embed llamacpp_help.txt
var llamaHelp string

func (llamacpp) about() about {
	return about{
		program: "llama-server", version: "b11669-Fake", help: llamaHelp, server: "llama.cpp",
		stderr: true, asked: "version: 0.7.0 (build 11669, commit Fake)\nbuilt with GNU 16.2.0 for Linux x86_64\n",
		health: []string{"/health", "/v1/health"},
	}
}

// run answers 503 from the start to the end of the load. Before that end, SIGTERM kills: the handlers are installed
// after the load (tools/server/server.cpp).
func (llamacpp) run(e *engine) int {
	e.onQuit(func() { dieBySignal(syscall.SIGQUIT) })
	if !e.begin("load_model: loading model '%s'", e.opts.model) {
		return 1
	}
	time.Sleep(e.b.BindDelay)
	if err := e.listen(); err != nil {
		e.log('E', "start: couldn't bind HTTP server socket, hostname: %s, port: %s", e.opts.host, e.opts.port)
		e.log('E', "main: exiting due to HTTP server error")
		return 1
	}
	go func() {
		e.load()
		e.onTerm(func(n int) {
			switch {
			case n > 1:
				e.log('W', "Received second interrupt, terminating immediately.")
				e.exit <- 1
			case !e.b.ExitOnSecondTerm:
				go llamaStop(e)
			}
		})
		e.log('I', "load_model: model loaded")
		e.isReady()
		e.log('I', "main: server is listening on %s", e.url())
	}()
	return <-e.exit
}

// llamaStop closes the port and gives no more tokens, but stays until every client in flight has hung up.
func llamaStop(e *engine) {
	e.log('I', "operator(): cleaning up before exit...")
	close(e.stopping)
	_ = e.listener.Close()
	e.busy.Lock()
	time.Sleep(e.b.SlowExit)
	e.exit <- 0
}

func (llamacpp) routes(e *engine) http.Handler {
	mux := http.NewServeMux()
	for _, path := range e.about.health {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if code := e.b.HealthStatus; code != 0 && code != http.StatusOK {
				e.profile.fail(w, code, "server_error", "told to fail")
				return
			}
			reply(w, http.StatusOK, object{"status": "ok"})
		})
	}
	mux.HandleFunc("GET /props", e.props)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if e.b.MetricsWake {
			e.wake(r)
		}
		e.llamaMetrics(w, r)
	})
	mux.HandleFunc("GET /slots", e.slots)
	for _, path := range []string{"GET /models", "GET /v1/models"} {
		mux.HandleFunc(path, e.models)
	}
	for _, path := range []string{"POST /completion", "POST /completions"} {
		mux.HandleFunc(path, e.answering(e.completion))
	}
	mux.HandleFunc("POST /v1/completions", e.answering(e.openAICompletion))
	for _, path := range []string{"POST /v1/chat/completions", "POST /chat/completions"} {
		mux.HandleFunc(path, e.answering(e.chatCompletion))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		e.profile.fail(w, http.StatusNotFound, "not_found_error", "File Not Found")
	})
	// First the state, then the key, as the real engine does.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !e.ready.Load():
			e.profile.fail(w, http.StatusServiceUnavailable, "unavailable_error", "Loading model")
		case r.Method == http.MethodPost && e.wake(r):
		case !e.isHealth(r) && !e.authorized(r) && !slices.Contains(e.opts.keys, r.Header.Get("X-Api-Key")):
			e.profile.fail(w, http.StatusUnauthorized, "authentication_error", "Invalid API Key")
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

func (llamacpp) fail(w http.ResponseWriter, code int, kind, message string) {
	type detail struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    int    `json:"code"`
	}
	reply(w, code, map[string]detail{"error": {message, kind, code}})
}

// dieAnswering is the end of the only process there is.
func (llamacpp) dieAnswering(*engine, http.ResponseWriter) { dieBySignal(syscall.SIGILL) }

// line has minutes, seconds, milliseconds and microseconds since the start, level and source.
func (llamacpp) line(e *engine, level byte, text string) string {
	us := time.Since(e.began).Microseconds()
	return fmt.Sprintf("%d.%02d.%03d.%03d %c srv    %s", us/60e6, us/1e6%60, us/1e3%1e3, us%1e3, level, text)
}

func (e *engine) props(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, object{
		"total_slots":      e.opts.slots,
		"model_alias":      e.opts.alias,
		"model_path":       orElse(e.b.PropsModel, e.opts.model),
		"modalities":       object{"vision": false, "audio": false},
		"endpoint_slots":   e.opts.slotsRoute,
		"endpoint_props":   false,
		"endpoint_metrics": e.opts.metrics,
		"build_info":       e.version(),
		"is_sleeping":      e.sleeps(),
	})
}

func (e *engine) models(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, object{"object": "list", "data": []object{{
		"id": e.opts.alias, "object": "model", "created": e.began.Unix(), "owned_by": "llamacpp",
		"meta": object{"n_ctx_train": 2048, "n_params": 0, "size": 0},
	}}})
}

func (e *engine) slots(w http.ResponseWriter, r *http.Request) {
	if !e.opts.slotsRoute {
		e.profile.fail(w, http.StatusNotImplemented, "not_supported_error",
			"This server does not support slots endpoint. Start it with `--slots`")
		return
	}
	running := e.running()
	if r.URL.Query().Get("fail_on_no_slot") == "1" && running == e.opts.slots {
		e.profile.fail(w, http.StatusServiceUnavailable, "unavailable_error", "no slot available")
		return
	}
	all := make([]object, e.opts.slots)
	for i := range all {
		all[i] = object{"id": i, "n_ctx": 2048, "speculative": false, "is_processing": i < running}
		if i < running {
			all[i]["next_token"] = []object{{"n_decoded": e.steps()}}
		}
	}
	reply(w, http.StatusOK, all)
}

func (e *engine) completion(w http.ResponseWriter, words int) {
	reply(w, http.StatusOK, object{
		"index": 0, "content": say(words), "id_slot": 0, "stop": true, "model": e.opts.alias,
		"tokens_predicted": words, "tokens_evaluated": 1, "stop_type": stopReason(words, "limit", "eos"),
	})
}

// sleeps reports whether the engine has had no work for so long that it sleeps.
func (e *engine) sleeps() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	worked := e.worked
	if e.readyAt.After(worked) {
		worked = e.readyAt
	}
	return e.opts.sleepIdle > 0 && time.Since(worked) > e.opts.sleepIdle && e.inFlight.Load() == 0
}

// wake takes a request for work. It is never the end of it.
func (e *engine) wake(r *http.Request) bool {
	if e.sleeps() {
		e.log('I', "handle_sleep: exiting sleeping state because of %s", r.URL.Path)
	}
	e.mu.Lock()
	e.worked = time.Now()
	e.mu.Unlock()
	return false
}
