// Package web is the HTTP face of a fleet: probes, the status of its replicas, their events as a stream, their logs, a page for
// people, and the metrics that its owner mounts. It owns the paths, what each of them answers, and who may see it.
//
//	replicas, err := fleet.Open(ctx, fleet.Options{}, cfgs...)
//	…
//	server := http.Server{Handler: web.New(replicas, web.Options{}), ReadHeaderTimeout: 5 * time.Second}
//
// It changes nothing about a fleet or its engines, opens no port, links no client of Prometheus, and loads nothing from
// anywhere else. docs/http.md has the paths.
package web

import (
	"fmt"
	"net/http"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
)

// Options are who may see what. With the zero value there are no metrics, and this machine alone sees more than the probes.
type Options struct {
	// Tokens are those of which one has to be presented for everything but the probes and the metrics. Without any, those
	// connections are served that came in over loopback; others see the probes and the metrics alone.
	Tokens Tokens
	// Metrics is what is served at /metrics, such as a handler of Prometheus' client; nil means nothing.
	Metrics http.Handler
}

// face serves one fleet.
type face struct {
	fleet    *fleet.Fleet
	recorder *recorder
	streams  chan struct{} // holds a token for each stream that is served
	patience time.Duration // how long a reader may take for what it was sent
}

// New returns a handler that serves a fleet, also after its end, with which its streams end. It works below any prefix that
// http.StripPrefix takes off. The context of its requests must tell at which address they came in, as that of http.Server does;
// else they count as from another machine. The server's ReadTimeout and WriteTimeout do not end its streams.
func New(f *fleet.Fleet, o Options) http.Handler {
	s := &face{fleet: f, recorder: newRecorder(f), streams: make(chan struct{}, maxStreams), patience: 10 * time.Second}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	for path, serve := range map[string]http.HandlerFunc{
		"/{$}": servePage, "/status": s.status, "/status.schema.json": statusSchema, "/events": s.events, "/usage": s.usage,
		"/logs": s.logs,
	} {
		mux.Handle("GET "+path, o.Tokens.known(serve))
	}
	return o.Tokens.local(headers(mux))
}

// headers are on every answer: nothing is kept, guessed, or shown within another page.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// replicaOf is the replica that a request asks for by ?replica=POOL/REPLICA; ok is false where it names none.
func (s *face) replicaOf(r *http.Request) (status provisioner.Status, ok bool, err error) {
	name := r.URL.Query().Get("replica")
	if name == "" {
		return provisioner.Status{}, false, nil
	}
	for _, status := range s.fleet.Status() {
		if status.ID().String() == name {
			return status, true, nil
		}
	}
	return provisioner.Status{}, true, fmt.Errorf("%w: the fleet has no replica %q; write POOL/REPLICA", provisioner.ErrNotFound, name)
}
