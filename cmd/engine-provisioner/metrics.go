package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// metricsServer serves the metrics of one run for Prometheus, at /metrics.
type metricsServer struct {
	url  string
	http *http.Server
	done chan struct{}
}

// metricsAddress is the value of --metrics-addr. Without a host it is this machine's alone: metrics name models and
// tell of load.
func metricsAddress(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || port == "" {
		return "", &usageError{err: fmt.Errorf(`--metrics-addr %q: write an address such as "127.0.0.1:9464"`, text)}
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// listenMetrics takes the address, before engines are started for nothing.
func listenMetrics(ctx context.Context, text string) (net.Listener, error) {
	address, err := metricsAddress(text)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: cannot serve metrics: %w; choose another --metrics-addr", provisioner.ErrBusy, err)
	}
	var wrong *net.AddrError
	switch {
	case errors.As(err, &wrong):
		return nil, &usageError{err: fmt.Errorf("--metrics-addr %q: %w", text, err)}
	case err != nil:
		return nil, fmt.Errorf("cannot serve metrics: %w; choose another --metrics-addr", err)
	}
	return listener, nil
}

func serveMetrics(listener net.Listener, engines prometheus.Collector) *metricsServer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(engines, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	s := &metricsServer{
		url: "http://" + listener.Addr().String() + "/metrics",
		http: &http.Server{
			Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
			IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(listener) // ends by close
	}()
	return s
}

// close lets the scrapes under way end, for a moment.
func (s *metricsServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.done
}
