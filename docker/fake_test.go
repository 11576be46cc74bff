package docker

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeRuntime answers like a runtime, for what a real one does not do on command. Its pages are by path, without the
// version in front.
func fakeRuntime(t testing.TB, podman bool, pages map[string]http.HandlerFunc) *runtime {
	t.Helper()
	dir, err := os.MkdirTemp("", "ep") // short, since a socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if strings.HasPrefix(path, "/v1.") {
			path = path[strings.Index(path[1:], "/")+1:]
		}
		switch page := pages[path]; {
		case page != nil:
			page(w, r)
		case path == "/_ping":
			w.Header().Set("Api-Version", "1.41")
		case path == "/version" && podman:
			fmt.Fprint(w, `{"Components": [{"Name": "Podman Engine", "Version": "4.3.1"}], "ApiVersion": "1.41"}`)
		case path == "/version":
			fmt.Fprint(w, `{"Components": [{"Name": "Engine", "Version": "20.10.24"}], "ApiVersion": "1.41"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"message": "no such page: %s"}`, path)
		}
	})}}
	server.Start()
	t.Cleanup(server.Close)
	launcher := New()
	t.Cleanup(func() { _ = launcher.Close() })
	r, err := launcher.runtime(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	if r.podman != podman {
		t.Errorf("Podman: %t", r.podman)
	}
	return r
}

func answer(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
}

// entry is one entry of a log as a runtime sends it.
func entry(at time.Time, text string) []byte {
	line := at.Format(time.RFC3339Nano) + " " + text
	head := make([]byte, 8)
	head[0] = 2
	binary.BigEndian.PutUint32(head[4:], uint32(len(line)))
	return append(head, line...)
}
