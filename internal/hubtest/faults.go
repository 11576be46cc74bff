package hubtest

import (
	"net/http"
	"sync/atomic"
)

// Times lets a fault of the CDN happen n times; a fault that does not happen does not count.
func Times(n int64, fault Fault) Fault {
	var left atomic.Int64
	left.Store(n)
	return func(w http.ResponseWriter, r *http.Request, cdn bool, next http.Handler) bool {
		if left.Add(-1) < 0 {
			return false
		}
		if !fault(w, r, cdn, next) {
			left.Add(1)
			return false
		}
		return true
	}
}

// Status answers requests for content with a status, and with Retry-After where that is not "".
func Status(code int, retryAfter string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, cdn bool, _ http.Handler) bool {
		if !cdn {
			return false
		}
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(code)
		return true
	}
}

// NoRanges serves whole files whatever range is asked for.
func NoRanges(w http.ResponseWriter, r *http.Request, cdn bool, next http.Handler) bool {
	if !cdn {
		return false
	}
	r = r.Clone(r.Context())
	r.Header.Del("Range")
	next.ServeHTTP(w, r)
	return true
}

// Cut breaks the connection after n bytes of a content that is longer.
func Cut(n int) Fault {
	return limit(n, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Hang sends nothing more after n bytes of a content that is longer, until the client gives up.
func Hang(n int) Fault {
	return limit(n, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

// Damage changes the first byte of every content.
func Damage(w http.ResponseWriter, r *http.Request, cdn bool, next http.Handler) bool {
	if !cdn {
		return false
	}
	next.ServeHTTP(damaged{w}, r)
	return true
}

type damaged struct{ http.ResponseWriter }

func (d damaged) Write(b []byte) (int, error) {
	changed := append([]byte{}, b...)
	changed[0]++
	return d.ResponseWriter.Write(changed)
}

func limit(n int, then func(http.ResponseWriter, *http.Request)) Fault {
	return func(w http.ResponseWriter, r *http.Request, cdn bool, next http.Handler) bool {
		if !cdn || r.Header.Get("Range") == "bytes=0-0" {
			return false
		}
		next.ServeHTTP(&limited{ResponseWriter: w, left: n, then: func() {
			_ = http.NewResponseController(w).Flush()
			then(w, r)
		}}, r)
		return true
	}
}

type limited struct {
	http.ResponseWriter
	left int
	then func()
}

func (l *limited) Write(b []byte) (int, error) {
	n, err := l.ResponseWriter.Write(b[:min(len(b), l.left)])
	if l.left -= n; err == nil && n < len(b) {
		l.then()
		return n, http.ErrAbortHandler
	}
	return n, err
}
