package web

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/settings"
)

const (
	here  = "127.0.0.1"
	there = "192.0.2.7" // this machine's address for others
)

// ask is an answer to a request that came in at an address; "" is none that the server tells.
func ask(h http.Handler, at, host, authorization, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	r.Host = host
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	if at != "" {
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP(at), Port: 9464})))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Who may see what, by where the request came in, what it is for, and what it presents.
func TestGuard(t *testing.T) {
	t.Parallel()
	f := open(t)
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("# of people\ntok-first\ntok-second one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, "series") })
	open := New(f, Options{Metrics: metrics})
	tokens, err := ReadTokens(settings.SecretRef{FromFile: file})
	if err != nil {
		t.Fatal(err)
	}
	closed := New(f, Options{Metrics: metrics, Tokens: tokens})
	const basic = "Basic OnRvay1zZWNvbmQgb25l" // no user, and "tok-second one"
	for _, path := range []string{"/status", "/status.schema.json", "/logs?replica=pool/r9", "/events?after=x"} {
		passes := map[string]int{"/logs?replica=pool/r9": http.StatusNotFound, "/events?after=x": http.StatusBadRequest}[path]
		if passes == 0 {
			passes = http.StatusOK
		}
		for _, c := range []struct {
			h                       http.Handler
			at, host, authorization string
			want                    int
		}{
			{open, here, "localhost:9464", "", passes},
			{open, "::1", "[::1]:9464", "", passes},
			{open, there, there + ":9464", "", http.StatusForbidden},
			{open, there, "localhost", "", http.StatusForbidden},
			{open, there, there + ":9464", "Bearer ", http.StatusForbidden},
			{open, "", "localhost", "", http.StatusForbidden},
			{closed, here, "localhost:9464", "", http.StatusUnauthorized},
			{closed, here, "localhost:9464", "Bearer tok-first", passes},
			{closed, there, "engines.example", "bearer tok-first", passes},
			{closed, there, "engines.example", basic, passes},
			{closed, there, "engines.example", "Bearer tok-second one", passes},
			{closed, there, "engines.example", "Bearer ", http.StatusUnauthorized},
			{closed, there, "engines.example", "Bearer tok-firs", http.StatusUnauthorized},
			{closed, there, "engines.example", "Bearer # of people", http.StatusUnauthorized},
			{closed, there, "engines.example", "Basic tok-first", http.StatusUnauthorized},
			{closed, there, "engines.example", "tok-first", http.StatusUnauthorized},
		} {
			w := ask(c.h, c.at, c.host, c.authorization, path)
			if w.Code != c.want {
				t.Errorf("%s at %q by %q with %q: %d, want %d: %s", path, c.at, c.host, c.authorization, w.Code, c.want, w.Body)
			}
			if asks := w.Header().Get("WWW-Authenticate") != ""; asks != (c.want == http.StatusUnauthorized) {
				t.Errorf("%s: status %d, and asks for a password: %v", path, w.Code, asks)
			}
			if text := w.Body.String(); strings.Contains(text, "tok-") {
				t.Errorf("%s tells the token: %s", path, text)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		for _, h := range []http.Handler{open, closed} {
			if w := ask(h, there, "engines.example:9464", "", path); w.Code != http.StatusOK {
				t.Errorf("%s of another machine: %d %s", path, w.Code, w.Body)
			}
		}
	}
}

// A page of elsewhere that has its name point to this machine sees nothing.
func TestRebinding(t *testing.T) {
	t.Parallel()
	h := New(open(t), Options{})
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		"localhost": http.StatusOK, "LocalHost.:80": http.StatusOK, "engines.localhost:9464": http.StatusOK, "127.0.0.1": http.StatusOK,
		"127.8.8.8:1": http.StatusOK, "[::1]:9464": http.StatusOK, "[::1]": http.StatusOK, "": http.StatusOK, own + ":9464": http.StatusOK,
		"evil.example": http.StatusForbidden, "evil.example:9464": http.StatusForbidden, "localhost.evil.example": http.StatusForbidden,
		"127.0.0.1.evil.example": http.StatusForbidden, "notlocalhost": http.StatusForbidden, "127.0.0.1:80:80": http.StatusForbidden,
	} {
		for _, path := range []string{"/status", "/readyz"} {
			if w := ask(h, here, host, "", path); w.Code != want {
				t.Errorf("Host %q: %d for %s, want %d", host, w.Code, path, want)
			}
		}
	}
}

func TestReadTokens(t *testing.T) {
	t.Setenv("WEB_TEST_EMPTY", "")
	for _, ref := range []settings.SecretRef{
		{}, {FromEnv: "WEB_TEST_EMPTY"}, {FromFile: filepath.Join(t.TempDir(), "missing")}, {FromEnv: "HOME", FromFile: "/etc/hostname"},
	} {
		if _, err := ReadTokens(ref); err == nil || !strings.Contains(err.Error(), "cannot get the token") {
			t.Errorf("%+v: %v", ref, err)
		}
	}
	t.Setenv("WEB_TEST_TOKEN", "known")
	tokens, err := ReadTokens(settings.SecretRef{FromEnv: "WEB_TEST_TOKEN"})
	if err != nil {
		t.Fatal(err)
	}
	if w := ask(New(open(t), Options{Tokens: tokens}), here, "localhost", "Bearer known", "/status"); w.Code != http.StatusOK {
		t.Errorf("the token of a variable: %d", w.Code)
	}
}
