package enginetest

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// health sends GET /health and returns the raw connection.
func health(t *testing.T, p *process) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: fake\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestHostileHealth(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mode  Health
		begin string // of the answer
		more  int    // bytes that follow quickly
	}{
		{DribbleHeader, "HTTP/1.1 200 OK\r\nX-Slow: xx", 0},
		{DribbleBody, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nxx", 0},
		{Flood1xx, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", 10 << 20},
		{EndlessHeaders, "HTTP/1.1 200 OK\r\nX-More: and more\r\nX-More: and more\r\n", 10 << 20},
		{EndlessBody, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nxx", 10 << 20},
	} {
		t.Run(string(tc.mode), func(t *testing.T) {
			t.Parallel()
			conn := health(t, start(t, Behavior{Health: tc.mode, LoadTime: time.Hour}).waitBound(t))
			got := make([]byte, len(tc.begin))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != tc.begin {
				t.Errorf("got %q, %v, want %q", got, err, tc.begin)
			}
			if n, err := io.CopyN(io.Discard, conn, int64(tc.more)); err != nil {
				t.Errorf("the flood ended after %d bytes: %v", n, err)
			}
		})
	}
}

func TestGzipBomb(t *testing.T) {
	t.Parallel()
	conn := health(t, start(t, Behavior{Health: GzipBomb}).waitBound(t))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	zr, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, zr, 100<<20); err != nil {
		t.Errorf("only %d bytes unpacked: %v", n, err)
	}
}

func TestAcceptOnly(t *testing.T) {
	t.Parallel()
	conn := health(t, start(t, Behavior{Health: AcceptOnly}).waitBound(t))
	_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes and %v, want a timeout", n, err)
	}
}

func TestRedirectAndStatus(t *testing.T) {
	t.Parallel()
	stranger := Stranger(t)
	for _, tc := range []struct {
		name  string
		b     Behavior
		want  string
		where string
	}{
		{"redirect", Behavior{Redirect: "http://other.example/health"}, "HTTP/1.1 302 Found", "http://other.example/health"},
		{"status", Behavior{HealthStatus: 404}, "HTTP/1.1 404 Not Found", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, tc.b).waitBound(t)
			p.eventually(t, tc.want, func() bool {
				resp, err := http.ReadResponse(bufio.NewReader(health(t, p)), nil)
				if err != nil {
					return false
				}
				_ = resp.Body.Close()
				return resp.Proto+" "+resp.Status == tc.want && resp.Header.Get("Location") == tc.where
			})
		})
	}
	if code, body := (&process{url: "http://" + address(stranger)}).get("/anything"); code != 200 {
		t.Errorf("the stranger answers %d %s", code, body)
	}
}

func TestMetricsHuge(t *testing.T) {
	t.Parallel()
	p := start(t, Behavior{Metrics: MetricsHuge}, "--metrics").waitReady(t)
	resp, err := http.Get(p.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if n, err := io.CopyN(io.Discard, resp.Body, 8<<20); err != nil {
		t.Errorf("the page ended after %d bytes: %v", n, err)
	}
}
