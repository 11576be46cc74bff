package enginetest

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tgi is text-generation-launcher, from the source of 3.3.6-dev0, the last one (#3345). Nobody here has run it.
//
// Command line: clap; each option is also a variable of its bare upper-case name, HOSTNAME among them, and a host that
// is no address becomes 0.0.0.0 (launcher/src/main.rs, router/src/server.rs).
//
// Port: the router's, which is started when all shards are ready, so that it is closed before.
//
// Pages: /health is 200 with an empty body or 503 (router/src/server.rs); /info has the version and the model. Series come
// to /metrics with the first request: the gauges are described at the start and recorded by the queue
// (backends/v3/src/queue.rs), and the exporter leaves out what was never recorded.
//
// Tree: shards and router in a process group each (main.rs, process_group(0)), and nothing ends them when the launcher
// is killed.
//
// Signals: SIGTERM, SIGINT and SIGHUP set one flag, at any time; the router is then sent SIGTERM and given
// --graceful-termination-timeout (90 seconds), then the shards likewise (main.rs, terminate). The status is 0.
//
// Failures are words of Rust and status 1: ShardCannotStart, WebserverFailed (with a port in use), DownloadError; a shard
// that dies later is ShardFailed.
type tgi struct{}

//go:embed tgi_help.txt
var tgiHelp string

const (
	tgiShard  = "text-generation-server"
	tgiRouter = "text-generation-router"
)

func (tgi) about() about {
	return about{
		program: "text-generation-launcher", version: "3.3.6-dev0", asked: "text-generation-launcher 3.3.6-dev0\n",
		help: tgiHelp, health: []string{"/health", "/ping", "/"},
	}
}

func (tgi) parse(args []string, lookup func(string) (string, bool), b Behavior) (options, error) {
	o := options{slots: 128, metrics: true}
	defs := parseClapHelp(tgiHelp)
	line := readFlags(args, defs)
	o.values = line.values
	for _, def := range defs {
		if _, given := o.values[def.name()]; given || def.env == "" {
			continue
		}
		if value, ok := lookup(def.env); ok {
			o.values[def.name()] = value
		}
	}
	o.help, o.version = o.values["--help"] != "", o.values["--version"] != ""
	refuse := func(why string) error {
		return &refusal{2, "error: " + why + "\n\nUsage: text-generation-launcher [OPTIONS]\n\nFor more information, try '--help'."}
	}
	unknown := slices.Concat(line.unknown, line.positional)
	o.port = cmp.Or(o.values["--port"], "3000")
	_, badPort := strconv.ParseUint(o.port, 10, 16)
	switch {
	case line.incomplete != "":
		return o, refuse("a value is required for '" + line.incomplete + "' but none was supplied")
	case b.StrictFlags && len(unknown) > 0:
		return o, refuse("unexpected argument '" + unknown[0] + "' found")
	case badPort != nil:
		return o, refuse("invalid value '" + o.port + "' for '--port <PORT>': invalid digit found in string")
	}
	o.model = cmp.Or(o.values["--model-id"], "bigscience/bloom-560m") // its default
	o.alias = o.model
	o.host = cmp.Or(o.values["--hostname"], "0.0.0.0")
	if _, err := netip.ParseAddr(o.host); err != nil {
		o.host = "0.0.0.0"
	}
	if key := o.values["--api-key"]; key != "" {
		o.keys = []string{key}
	}
	return o, nil
}

func (tgi) run(e *engine) int {
	e.onQuit(func() { dieBySignal(syscall.SIGQUIT) })
	running, stop := context.WithCancel(context.Background())
	e.onTerm(func(int) { stop() }, syscall.SIGHUP)
	if !e.begin("Args { model_id: \"%s\", port: %s }", e.opts.model, e.opts.port) {
		return 1
	}
	if !e.passUnless(running, e.b.BindDelay) {
		return 0
	}
	if _, hasConfig, exists := modelConfig(e.opts.model); e.b.CheckModel && !(hasConfig && exists) {
		return tgiError(e, "Download encountered an error: \nRepository Not Found for url", "DownloadError")
	}
	crashed := make(chan string, 8)
	lost := func(p *member) { crashed <- p.title }
	if err := e.startParts(tgiShards(e.opts.number("--num-shard", 1)), lost); err != nil {
		return tgiError(e, err.Error(), "ShardCannotStart")
	}
	shards := e.parts
	if path := e.opts.values["--shard-uds-path"]; path != "" {
		_ = os.Remove(path + "-0") // also that of another launcher: main.rs
		socket, err := net.Listen("unix", path+"-0")
		if err != nil {
			e.endParts(0, shards)
			return tgiError(e, "Shard 0 failed to start: "+err.Error(), "ShardCannotStart")
		}
		e.keep = append(e.keep, socket)
	}
	grace := e.scaled(time.Duration(e.opts.number("--graceful-termination-timeout", 90)) * time.Second)
	e.log('I', "Waiting for shard to be ready... rank=0")
	if !e.passUnless(running, e.b.LoadTime) {
		e.endParts(grace, shards)
		return 0
	}
	e.load()
	if why := brokenWeights(e); why != "" {
		e.endParts(grace, shards)
		return tgiError(e, "Shard complete standard error output:\nsafetensors_rust.SafetensorError: "+why+"\nShard 0 failed to start", "ShardCannotStart")
	}
	e.log('I', "Shard ready in %s rank=0", time.Since(e.began))
	e.log('I', "Starting Webserver")
	if err := e.startParts([]part{{Title: tgiRouter, Group: true, Serves: true}}, lost); err != nil {
		e.endParts(grace, shards)
		return tgiError(e, "Webserver Crashed", "WebserverFailed")
	}
	router := e.parts[len(shards):]
	e.isReady()
	code := 0
	select {
	case <-running.Done():
	case title := <-crashed:
		why, kind := "Shard 0 crashed", "ShardFailed"
		if title == tgiRouter {
			why, kind = "Webserver Crashed", "WebserverFailed"
		}
		code = tgiError(e, why, kind)
	}
	e.log('I', "Terminating webserver")
	e.endParts(grace, router)
	e.log('I', "webserver terminated")
	e.log('I', "Shutting down shards")
	e.endParts(grace, shards)
	time.Sleep(e.b.SlowExit)
	return code
}

// tgiError logs why the launcher ends, prints the name of the error as Rust does for a main that returns one, and
// returns the exit status.
func tgiError(e *engine, why, kind string) int {
	e.log('E', "%s", why)
	fmt.Fprintln(os.Stderr, "Error: "+kind)
	return 1
}

func tgiShards(n int) []part {
	shards := []part{{Title: tgiShard, Group: true}}
	for i := 1; i < n; i++ {
		shards = append(shards, part{Title: fmt.Sprintf("%s-%d", tgiShard, i), Group: true})
	}
	return shards
}

// passUnless lets d pass and says whether ctx lasted as long.
func (e *engine) passUnless(ctx context.Context, d time.Duration) bool {
	passed := make(chan struct{})
	go func() {
		e.pass(d)
		close(passed)
	}()
	select {
	case <-passed:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// runRouter is the life of the router: it has the port.
func runRouter(e *engine) int {
	var err error
	if e.opts, err = e.profile.parse(e.argv, os.LookupEnv, e.b); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	e.onTerm(func(n int) {
		if n > 1 {
			return
		}
		go func() {
			e.finish(0)
			e.exit <- 0
		}()
	})
	e.mu.Lock()
	e.readyAt = time.Now()
	e.mu.Unlock()
	e.ready.Store(true)
	err = e.open()
	if port := e.opts.values["--prometheus-port"]; err == nil && port != "" {
		var second net.Listener
		if second, err = net.Listen("tcp", net.JoinHostPort(e.opts.host, port)); err == nil {
			e.keep = append(e.keep, second)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "thread 'main' panicked at router/src/server.rs:\ncalled `Result::unwrap()` on an `Err` value: "+
			`Os { code: 98, kind: AddrInUse, message: "Address already in use" }`)
		return 101
	}
	if err := e.parent.send(message{PIDs: e.pids(tgiRouter)}); err != nil {
		return 1
	}
	e.answer() // not earlier: the launcher takes the first message for the pids, and an answer can send another
	e.log('I', "Connected")
	return <-e.exit
}

func (tgi) routes(e *engine) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"GET /health", "GET /ping", "GET /{$}"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if e.b.HealthStatus >= 500 {
				e.profile.fail(w, e.b.HealthStatus, "healthcheck", "unhealthy")
				return
			}
			e.healthy(w, r)
		})
	}
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, object{
			"model_id": e.model(), "model_sha": nil, "model_pipeline_tag": "text-generation", "max_concurrent_requests": e.opts.slots,
			"router": tgiRouter, "version": e.version(), "sha": "db931fcf", "docker_label": nil,
		})
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case e.b.Metrics == MetricsOff:
			http.NotFound(w, r)
		case e.served.Load() == 0 && e.b.Metrics == "":
			w.WriteHeader(http.StatusOK) // nothing was recorded yet
		default:
			e.serveMetrics(w, []sample{
				{name: "tgi_request_count", kind: "counter", help: "Total number of requests", value: int(e.served.Load())},
				{
					name: "tgi_batch_inference_success", kind: "counter", help: "Number of successful inference calls",
					labels: `method="decode"`, value: int(e.tokens.Load()) + e.steps(),
				},
				{name: "tgi_queue_size", kind: "gauge", help: "Current number of requests in the queue", value: e.waiting(), requests: true},
				{name: "tgi_batch_current_size", kind: "gauge", help: "Current batch size", value: e.running(), requests: true},
			})
		}
	})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, object{"object": "list", "data": []object{{"id": e.model(), "object": "model", "owned_by": e.model()}}})
	})
	mux.HandleFunc("POST /generate", e.answering(func(w http.ResponseWriter, words int) {
		reply(w, http.StatusOK, object{"generated_text": say(words)})
	}))
	mux.HandleFunc("POST /v1/completions", e.answering(e.openAICompletion))
	mux.HandleFunc("POST /v1/chat/completions", e.answering(e.chatCompletion))
	// Pages of information are outside the layer that asks for the key.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !e.authorized(r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (tgi) fail(w http.ResponseWriter, code int, kind, message string) {
	reply(w, code, object{"error": message, "error_type": kind})
}

// dieAnswering is the end of a shard, which the launcher sees.
func (tgi) dieAnswering(e *engine, w http.ResponseWriter) {
	_ = e.parent.send(message{Order: &order{Part: tgiShard}})
	e.profile.fail(w, http.StatusFailedDependency, "generation", "Request failed during generation: Server error: transport error")
}

func (tgi) line(_ *engine, level byte, text string) string {
	name := map[byte]string{'I': " INFO", 'W': " WARN", 'E': "ERROR"}[level]
	return fmt.Sprintf("%s %s text_generation_launcher: %s", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), name, strings.TrimSpace(text))
}
