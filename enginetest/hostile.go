package enginetest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// misbehave answers GET /health where the behaviour wants it wrong, and says whether it did.
func (e *engine) misbehave(w http.ResponseWriter, r *http.Request) bool {
	if e.b.Redirect != "" {
		http.Redirect(w, r, e.b.Redirect, http.StatusFound)
		return true
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	switch e.b.Health {
	case DribbleHeader:
		raw(w, func(conn io.Writer) { dribble(conn, ok+"X-Slow: ", -1) })
	case DribbleBody:
		raw(w, func(conn io.Writer) { dribble(conn, ok+"Content-Length: 1000000\r\n\r\n", 1_000_000) })
	case Flood1xx:
		raw(w, func(conn io.Writer) { repeat(conn, "", "HTTP/1.1 103 Early Hints\r\n\r\n", -1) })
	case EndlessHeaders:
		raw(w, func(conn io.Writer) { repeat(conn, ok, "X-More: and more\r\n", -1) })
	case EndlessBody:
		chunk := "400\r\n" + strings.Repeat("x", 1024) + "\r\n"
		raw(w, func(conn io.Writer) { repeat(conn, ok+"Transfer-Encoding: chunked\r\n\r\n", chunk, -1) })
	case GzipBomb:
		raw(w, func(conn io.Writer) {
			// Concatenated gzip files unpack to one stream.
			repeat(conn, ok+"Content-Encoding: gzip\r\nConnection: close\r\n\r\n", zippedMiB(), 10_000)
		})
	default:
		return false
	}
	return true
}

// raw takes the connection from the server, writes to it and closes it.
func raw(w http.ResponseWriter, write func(conn io.Writer)) {
	conn, ok := hijack(w)
	if !ok {
		return
	}
	defer func() { _ = conn.Close() }()
	write(conn)
}

func hijack(w http.ResponseWriter) (net.Conn, bool) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return nil, false
	}
	conn, _, err := h.Hijack()
	return conn, err == nil
}

// cut ends the connection in the middle of an answer.
func cut(w http.ResponseWriter) {
	raw(w, func(conn io.Writer) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"content\":")
	})
}

// dribble writes begin and then n bytes, one per 100 ms, without end when n is negative.
func dribble(conn io.Writer, begin string, n int) {
	_, err := io.WriteString(conn, begin)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for ; err == nil && n != 0; n-- {
		<-ticker.C
		_, err = io.WriteString(conn, "x")
	}
}

// repeat writes begin and then text n times, without end when n is negative, as fast as the client reads.
func repeat(conn io.Writer, begin, text string, n int) {
	_, err := io.WriteString(conn, begin)
	for ; err == nil && n != 0; n-- {
		_, err = io.WriteString(conn, text)
	}
}

// zippedMiB is a gzip file of 1 MiB of zeros: about 1 KB.
func zippedMiB() string {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	_, _ = zw.Write(make([]byte, 1<<20)) // a Buffer takes everything
	_ = zw.Close()
	return buf.String()
}
