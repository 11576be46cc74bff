package enginetest

import (
	"fmt"
	"net/http"
	"os"
	"syscall"
	"time"
)

// custom is a plain web server with a completion route, as somebody may write one: the port is closed while it loads,
// SIGTERM kills it until then, and afterwards lets the requests in flight end.
type custom struct{}

const customHelp = `usage: server [-h] [--model MODEL] [--host HOST] [--port PORT] [--api-key API_KEY]

options:
  -h, --help            show this help message and exit
  --version             show the version and exit
  --model MODEL         what to serve
  --host HOST           where to listen (default: 127.0.0.1)
  --port PORT           where to listen (default: 8000)
  --api-key API_KEY     what clients must show
`

func (custom) about() about {
	return about{
		program: "server", version: "1.2.3", asked: "1.2.3\n", help: customHelp, server: "custom",
		health: []string{"/health"},
	}
}

func (custom) parse(args []string, _ func(string) (string, bool), b Behavior) (options, error) {
	o := options{host: "127.0.0.1", port: "8000", slots: 4, metrics: true}
	line := readFlags(args, parsePythonHelp(customHelp))
	o.values = line.values
	o.help, o.version = o.values["--help"] != "", o.values["--version"] != ""
	o.take(&o.model, "--model")
	o.take(&o.host, "--host")
	o.take(&o.port, "--port")
	if key := o.values["--api-key"]; key != "" {
		o.keys = []string{key}
	}
	o.alias = o.model
	if err := pythonRefusal("server [-h] [--model MODEL]", "server", line, b, len(line.positional)); err != nil {
		return o, err
	}
	if _, err := os.Stat(o.model); b.CheckModel && err != nil {
		return o, &refusal{1, "cannot read the model: " + err.Error()}
	}
	return o, nil
}

func (custom) run(e *engine) int {
	e.onQuit(func() { dieBySignal(syscall.SIGQUIT) })
	time.Sleep(e.b.BindDelay)
	if !e.begin("loading %s", e.opts.model) {
		return 1
	}
	e.load()
	e.onTerm(func(n int) {
		if n > 1 {
			return
		}
		go func() {
			e.finish(0)
			time.Sleep(e.b.SlowExit)
			e.exit <- 0
		}()
	})
	if err := e.listen(); err != nil {
		e.log('E', "cannot listen: %v", err)
		return 1
	}
	e.isReady()
	e.log('I', "listening on %s", e.url())
	return <-e.exit
}

func (custom) routes(e *engine) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", e.healthy)
	mux.HandleFunc("GET /api/version", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, object{"version": e.version(), "model": e.model()})
	})
	if e.b.Metrics != MetricsOff {
		mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
			e.serveMetrics(w, []sample{
				{name: "server_answers_total", kind: "counter", help: "Answers.", value: int(e.served.Load() - e.inFlight.Load())},
				{name: "server_requests_running", kind: "gauge", help: "Requests.", value: e.running(), requests: true},
				{name: "server_requests_waiting", kind: "gauge", help: "Requests.", value: e.waiting(), requests: true},
			})
		})
	}
	mux.HandleFunc("POST /v1/completions", e.answering(e.openAICompletion))
	mux.HandleFunc("POST /v1/chat/completions", e.answering(e.chatCompletion))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !e.authorized(r) {
			e.profile.fail(w, http.StatusUnauthorized, "authentication_error", "wrong key")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (custom) fail(w http.ResponseWriter, code int, kind, message string) {
	reply(w, code, object{"error": message, "type": kind})
}

func (custom) dieAnswering(*engine, http.ResponseWriter) { dieBySignal(syscall.SIGILL) }

func (custom) line(_ *engine, _ byte, text string) string {
	return fmt.Sprintf("%s %s", time.Now().Format(time.DateTime), text)
}
