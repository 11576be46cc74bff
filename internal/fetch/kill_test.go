package fetch

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/hubtest"
)

// child downloads what dir/job.json says and prints how far it is.
func child(dir string) int {
	data, err := os.ReadFile(filepath.Join(dir, "job.json"))
	if err != nil {
		return 3
	}
	var f File
	f.Progress = func(Progress) {}
	var job struct {
		URL, Path, Digest string
	}
	if json.Unmarshal(data, &job) != nil {
		return 3
	}
	f.URL, f.Path, f.Digest = job.URL, job.Path, Digest(job.Digest)
	f.minRange = 64 << 10
	f.Progress = func(p Progress) { fmt.Println(p.Done) }
	if err := Download(context.Background(), f); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func (b *bench) child(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	job, _ := json.Marshal(map[string]string{"URL": b.file.URL, "Path": b.file.Path, "Digest": string(b.file.Digest)})
	if err := os.WriteFile(filepath.Join(dir, "job.json"), job, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "FETCH_CHILD="+dir)...)
	return cmd
}

// TestKilled kills a process that downloads, and continues in this one.
func TestKilled(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4<<20)
	b.Inject(hubtest.Times(4, hubtest.Hang(50<<10))) // 200 kB, and then it hangs
	cmd := b.child(t)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() //nolint:errcheck // it is dead already
	// Another one waits meanwhile, and does the rest when the first is dead.
	waits, waited := make(chan struct{}, 9), make(chan error, 1)
	other := b.file
	other.Progress = func(p Progress) {
		if p.Waiting {
			waits <- struct{}{}
		}
	}
	var saved state
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if data, err := os.ReadFile(b.file.Path + stateSuffix); err == nil && json.Unmarshal(data, &saved) == nil {
			break
		}
	}
	if len(saved.Done) == 0 {
		t.Fatal("the child noted nothing")
	}
	go func() { waited <- Download(t.Context(), other) }()
	<-waits
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	asked := len(b.ranges())
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	b.checkFile(t)
	for _, r := range b.ranges()[asked+1:] {
		if strings.HasPrefix(r, "bytes=0-") {
			t.Error("the second process began anew")
		}
	}
}

// TestProxy goes through a proxy that asks for a password, over TLS.
func TestProxy(t *testing.T) {
	t.Parallel()
	b := newBench(t, 100<<10)
	served := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(b.content)))
	}))
	defer served.Close()
	var authorized atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
		if r.Method != http.MethodConnect || r.Host != "example.com:443" || user != "me" || password != "sesame" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		authorized.Store(true)
		to, err := net.Dial("tcp", served.Listener.Addr().String())
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		_, _ = io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(to, from); to.Close() }()
		_, _ = io.Copy(from, to)
	}))
	defer proxy.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: served.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	b.file.URL = "https://example.com/model"
	through := func(password string) ([]byte, error) {
		return b.child(t, "SSL_CERT_FILE="+ca, "SSL_CERT_DIR=", "NO_PROXY=", "no_proxy=",
			"HTTPS_PROXY=http://me:"+password+"@"+host(proxy.URL)).CombinedOutput()
	}
	out, err := through("wrong-password")
	if err == nil || !strings.Contains(string(out), "Proxy Authentication Required") || strings.Contains(string(out), "wrong-password") {
		t.Errorf("with a wrong password: %v: %s", err, out)
	}
	if out, err := through("sesame"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !authorized.Load() {
		t.Error("the proxy was not asked")
	}
	b.checkFile(t)
}
