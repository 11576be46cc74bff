package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/client"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
)

// message is one server-sent event, as a browser reads it.
type message struct {
	event, data string
	id          uint64
}

// reader reads a stream.
type reader struct {
	t       *testing.T
	body    io.ReadCloser
	lines   *bufio.Reader
	current uint64 // the id, which lasts until there is another
}

// follow opens the stream after the number of an event, if it is not "".
func follow(t *testing.T, caller *http.Client, url, after string) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(wait.Bounded(t))
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := caller.Do(req) //nolint:bodyclose // the reader closes it
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %s, type %q", resp.Status, resp.Header.Get("Content-Type"))
	}
	return &reader{t: t, body: resp.Body, lines: bufio.NewReader(resp.Body)}
}

// next is the next message; ok is false at the end of the stream.
func (r *reader) next() (m message, ok bool) {
	r.t.Helper()
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return message{}, false
		}
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch key {
		case "id":
			if r.current, err = strconv.ParseUint(value, 10, 64); err != nil {
				r.t.Fatal(err)
			}
		case "event":
			m.event = value
		case "data":
			m.data = value
		case "":
			if m.data != "" {
				m.id = r.current
				return m, true
			}
		case ":":
		default:
			r.t.Fatalf("a line %q", line)
		}
	}
}

// event is the next message as an event of the fleet.
func (r *reader) event() provisioner.Event {
	r.t.Helper()
	m, ok := r.next()
	if !ok || m.event != "" {
		r.t.Fatalf("not an event: %+v", m)
	}
	var e provisioner.Event
	if err := json.Unmarshal([]byte(m.data), &e); err != nil {
		r.t.Fatal(err)
	}
	if e.Seq != 0 && e.Seq != m.id {
		r.t.Fatalf("event %d has the id %d", e.Seq, m.id)
	}
	return e
}

// snapshot is the next message as a snapshot.
func (r *reader) snapshot() Snapshot {
	r.t.Helper()
	m, ok := r.next()
	if !ok || m.event != "snapshot" {
		r.t.Fatalf("not a snapshot: %+v", m)
	}
	var s Snapshot
	if err := json.Unmarshal([]byte(m.data), &s); err != nil {
		r.t.Fatal(err)
	}
	if s.Seq != m.id {
		r.t.Fatalf("the snapshot of %d has the id %d", s.Seq, m.id)
	}
	return s
}

// A reader begins with a snapshot and misses nothing, however often it comes again.
func TestEvents(t *testing.T) {
	t.Parallel()
	f := open(t, config(t, enginetest.Behavior{}))
	url, caller := serve(t, f, Options{})
	first := follow(t, caller, url+"/events", "")
	last := first.snapshot().Seq
	next := func(r *reader) provisioner.Event {
		t.Helper()
		e := r.event()
		if e.Kind == provisioner.EventProgress {
			return e
		}
		if e.Seq != last+1 || e.Missed != 0 {
			t.Fatalf("event %d after %d, %d missed", e.Seq, last, e.Missed)
		}
		last = e.Seq
		return e
	}
	for next(first).State != provisioner.StateReady {
	}
	first.body.Close()
	if err := syscall.Kill(f.Status()[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// It comes again after each event, as over a bad connection.
	for ready := false; !ready; {
		again := follow(t, caller, url+"/events", strconv.FormatUint(last, 10))
		e := next(again)
		ready = e.Kind == provisioner.EventState && e.State == provisioner.StateReady
		again.body.Close()
	}
	all := follow(t, caller, url+"/events?after=0", "")
	for seen := uint64(0); seen < last; {
		e := all.event()
		if e.Seq != 0 && e.Seq <= seen {
			t.Fatalf("event %d after %d", e.Seq, seen)
		}
		seen = max(seen, e.Seq)
	}
	recent := follow(t, caller, url+"/events?since=1h", "")
	if e := recent.event(); e.Seq == 0 || e.Seq > last-2 {
		t.Errorf("the first event of the last hour is %d", e.Seq)
	}
	recent.body.Close()
	for _, wrong := range []string{"yesterday", "-1m", "15"} {
		if code, body := client.Get(t, caller, url+"/events?since="+wrong); code != http.StatusBadRequest || !strings.Contains(body, "such as 15m") {
			t.Errorf("since %s: %d %q", wrong, code, body)
		}
	}
	// The number of another state directory is none to go on from.
	other := follow(t, caller, url+"/events", strconv.FormatUint(last+1e9, 10))
	if s := other.snapshot(); s.Seq != last || s.Replicas[0].State != provisioner.StateReady {
		t.Errorf("the snapshot is %+v", s)
	}
	if code, body := client.Get(t, caller, url+"/events?after=-1"); code != http.StatusBadRequest || !strings.Contains(body, "the number of an event") {
		t.Errorf("%d %q", code, body)
	}
	// The streams end with the fleet, after its last event.
	if err := f.Shutdown(wait.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	state := provisioner.StateReady
	for {
		m, ok := other.next()
		if !ok {
			break
		}
		var e provisioner.Event
		if err := json.Unmarshal([]byte(m.data), &e); err != nil {
			t.Fatal(err)
		}
		state = e.State
	}
	if state != provisioner.StateStopped {
		t.Errorf("the last state is %s", state)
	}
}

// The server's limits of time are for answers, not for streams.
func TestEventsOutlastTheServersTimeouts(t *testing.T) {
	t.Parallel()
	cfg := config(t, enginetest.Behavior{LoadTime: 300 * time.Millisecond})
	f := open(t, cfg)
	handler := New(f, Options{})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadTimeout: 50 * time.Millisecond, WriteTimeout: 50 * time.Millisecond}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends by Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	caller := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + listener.Addr().String() + "/events"
	wait.Until(t, "a request is read in time", func() bool { // which a busy machine may not do
		req, err := http.NewRequestWithContext(wait.Bounded(t), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := caller.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		r := &reader{t: t, body: resp.Body, lines: bufio.NewReader(resp.Body)}
		r.snapshot()
		began := time.Now()
		go func() { _ = f.Restart(context.Background(), r0, provisioner.StopOptions{}) }()
		for e := r.event(); e.State != provisioner.StateReady || e.Kind != provisioner.EventState || time.Since(began) < 100*time.Millisecond; e = r.event() {
		}
		return true
	})
}

// Who does not read is let go, and holds up nobody.
func TestEventsLetSlowReadersGo(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := &face{fleet: f, streams: make(chan struct{}, 1), patience: 10 * time.Millisecond}
	near, far := net.Pipe() // has no buffer
	defer near.Close()
	served := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(served)
		s.events(w, r)
	})}
	listener := &oneListener{conns: make(chan net.Conn, 1)}
	listener.conns <- far
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends by Close
	}()
	if _, err := fmt.Fprint(near, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	wait.Closed(t, "a stream that nobody reads", served)
	if len(s.streams) != 0 {
		t.Error("it still counts")
	}
	_ = server.Close()
	<-ended
}

// oneListener accepts what it is given.
type oneListener struct{ conns chan net.Conn }

func (l *oneListener) Accept() (net.Conn, error) {
	if conn, ok := <-l.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (l *oneListener) Close() error   { close(l.conns); return nil }
func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func TestEventsAreServedToSoMany(t *testing.T) {
	t.Parallel()
	s := &face{fleet: open(t), streams: make(chan struct{})}
	w := ask(http.HandlerFunc(s.events), here, "localhost", "", "/events")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// What /status answers is of its schema, which is served.
func TestStatus(t *testing.T) {
	t.Parallel()
	f := open(t, config(t, enginetest.Behavior{DieReady: &enginetest.Death{Code: 3, Stderr: "<b>out & over</b>"}}))
	url, caller := serve(t, f, Options{})
	wait.Until(t, "it has failed once", func() bool { return f.Status()[0].Restarts.Total > 0 })
	dir := t.TempDir()
	for _, name := range []string{"status.schema.json", "status"} {
		code, text := client.Get(t, caller, url+"/"+name)
		if code != http.StatusOK {
			t.Fatalf("%s: %d", name, code)
		}
		if name == "status" && !strings.HasPrefix(text, `{"seq":`) {
			t.Errorf("status: %s", text)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	holds := exec.CommandContext(t.Context(), "go", "-C", "../internal/test/schema", "run", "./holds",
		filepath.Join(dir, "status.schema.json"), filepath.Join(dir, "status"))
	if out, err := holds.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The log is that of the last launch, cleaned, also when somebody has removed it.
func TestLogs(t *testing.T) {
	t.Parallel()
	f := open(t, config(t, enginetest.Behavior{LogText: "\x1b[31mred\x1b[0m <b>bold</b> \x07 end\n"}))
	url, caller := serve(t, f, Options{})
	if err := f.WaitReady(wait.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func() error{
		func() error { return nil },
		func() error { return os.Remove(f.Status()[0].Log) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		code, text := client.Get(t, caller, url+"/logs?replica=pool/r0")
		if code != http.StatusOK || !strings.Contains(text, "red <b>bold</b>  end\n") || strings.Contains(text, "\x1b") {
			t.Errorf("%d %q", code, text)
		}
	}
	for query, want := range map[string]int{"": http.StatusBadRequest, "?replica=pool/r1": http.StatusNotFound} {
		if code, text := client.Get(t, caller, url+"/logs"+query); code != want {
			t.Errorf("logs%s: %d %q", query, code, text)
		}
	}
}
