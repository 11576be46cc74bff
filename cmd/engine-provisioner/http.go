package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/settings"
	"github.com/llama-orch/engine-provisioner/web"
)

// httpFlags say where a run serves its HTTP face, and for whom.
type httpFlags struct {
	address   string // "": nowhere
	tokenEnv  string
	tokenFile string
}

func (f *httpFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.address, "http-addr", "", `serve a page, status, events, probes and metrics at this address, such as "127.0.0.1:9464"; `+
		`":9464" is for this machine only`)
	flags.StringVar(&f.tokenFile, "http-token-file", "", "a file with the token that all of it asks for but probes and metrics; other machines need one")
	flags.StringVar(&f.tokenEnv, "http-token-env", "", "the variable with that token")
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "metrics-addr" { // which it was when there were only metrics
			name = "http-addr"
		}
		return pflag.NormalizedName(name)
	})
	_ = cmd.MarkFlagFilename("http-token-file")
}

// check finds out what is wrong with the flags for themselves.
func (f *httpFlags) check(detach bool) error {
	switch {
	case detach && f.address != "":
		return &usageError{err: errors.New("--http-addr needs a manager that stays; leave out --detach")}
	case f.address == "" && cmp.Or(f.tokenEnv, f.tokenFile) != "":
		return &usageError{err: errors.New("a token for HTTP needs an address to serve at; add --http-addr")}
	case f.tokenEnv != "" && f.tokenFile != "":
		return &usageError{err: errors.New("--http-token-file and --http-token-env exclude each other; a file can hold several tokens")}
	}
	return nil
}

// httpServer serves the HTTP face of one run.
type httpServer struct {
	listener net.Listener
	tokens   web.Tokens
	keyed    bool
	http     *http.Server
	done     chan struct{} // closed when all is over; nil when nothing is served
}

// listenHTTP takes the address and reads the token, before engines are started for nothing. It is nil for no address.
func listenHTTP(ctx context.Context, f httpFlags) (*httpServer, error) {
	if f.address == "" {
		return nil, nil
	}
	s := &httpServer{keyed: cmp.Or(f.tokenEnv, f.tokenFile) != ""}
	var err error
	if s.keyed {
		if s.tokens, err = web.ReadTokens(settings.SecretRef{FromEnv: f.tokenEnv, FromFile: f.tokenFile}); err != nil {
			return nil, &usageError{err: err}
		}
	}
	s.listener, err = listenAt(ctx, f.address)
	return s, err
}

func listenAt(ctx context.Context, text string) (net.Listener, error) {
	address, err := httpAddress(text)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: cannot serve HTTP: %w; choose another --http-addr", provisioner.ErrBusy, err)
	}
	var wrong *net.AddrError
	switch {
	case errors.As(err, &wrong):
		return nil, &usageError{err: fmt.Errorf("--http-addr %q: %w; write an address such as \"127.0.0.1:9464\"", text, err)}
	case err != nil:
		return nil, fmt.Errorf("cannot serve HTTP: %w; choose another --http-addr", err)
	}
	return listener, nil
}

// httpAddress is the value of --http-addr. Without a host it is this machine's alone: metrics name models and tell of load.
func httpAddress(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || port == "" {
		return "", &usageError{err: fmt.Errorf(`--http-addr %q: write an address such as "127.0.0.1:9464"`, text)}
	}
	return net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port), nil
}

// serve begins to answer. It returns what there is to know, for people.
func (s *httpServer) serve(handler http.Handler) string {
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.http.Serve(s.listener) // ends by close
	}()
	url := "http://" + reachable(s.listener.Addr())
	switch at, ok := s.listener.Addr().(*net.TCPAddr); {
	case s.keyed:
		return "page at " + url + "/, with the token as the password; metrics at " + url + "/metrics"
	case ok && at.IP.IsLoopback():
		return "page at " + url + "/, metrics at " + url + "/metrics"
	default:
		return "probes and metrics at " + url + "/metrics; for the page other machines need a token (--http-token-file)"
	}
}

// reachable is where others find a listener: one on all addresses has none that they could use.
func reachable(listener net.Addr) string {
	at, ok := listener.(*net.TCPAddr)
	if name, err := os.Hostname(); ok && err == nil && at.IP.IsUnspecified() {
		return net.JoinHostPort(name, strconv.Itoa(at.Port))
	}
	return listener.String()
}

// close lets the answers under way end, for a moment.
func (s *httpServer) close() {
	switch {
	case s == nil:
		return
	case s.done == nil:
		s.listener.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.done
}
