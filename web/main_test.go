package web

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
	"github.com/llama-orch/engine-provisioner/settings"
)

// TestMain is where the test binary becomes the fake engine; it fails when an engine or a goroutine outlives the tests.
func TestMain(m *testing.M) {
	_ = os.Setenv("HF_HUB_OFFLINE", "1")
	goleak.VerifyTestMain(suite{m})
}

type suite struct{ *testing.M }

func (s suite) Run() int {
	code := enginetest.Run(s.M)
	// goleak waits two seconds for goroutines that are at their end, which is not enough for a busy machine.
	for deadline := time.Now().Add(wait.Patience); goleak.Find() != nil && time.Now().Before(deadline); {
	}
	return code
}

var r0 = provisioner.ReplicaID{Pool: "pool", Replica: "r0"}

// config is a replica whose engine behaves like b, and is started again almost at once.
func config(t *testing.T, b enginetest.Behavior) provisioner.ProvisionConfig {
	t.Helper()
	dir := t.TempDir()
	model := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(model, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	return provisioner.ProvisionConfig{
		PoolID: r0.Pool, ReplicaID: r0.Replica, StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "llamacpp", Port: enginetest.FreePort(t, 1), Model: settings.Model{ID: model}, GPU: engine.GPUNone,
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: enginetest.Install(t, b)}},
		Restart: settings.Restart{
			InitialDelay: settings.Duration(10 * time.Millisecond), MaxDelay: settings.Duration(50 * time.Millisecond),
		},
	}
}

// open is a fleet of these replicas, which is stopped at the end of the test.
func open(t *testing.T, cfgs ...provisioner.ProvisionConfig) *fleet.Fleet {
	t.Helper()
	o := fleet.Options{Launch: []provisioner.Option{provisioner.WithCacheDir(t.TempDir())}}
	if len(cfgs) == 0 {
		o.StateDir = filepath.Join(t.TempDir(), "state")
	}
	f, err := fleet.Open(wait.Bounded(t), o, cfgs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.KillAll(context.Background()); err != nil && !errors.Is(err, provisioner.ErrKilled) {
			t.Error(err)
		}
	})
	return f
}

// serve is a handler on loopback, with a client that keeps no connections.
func serve(t *testing.T, f *fleet.Fleet, o Options) (url string, caller *http.Client) {
	t.Helper()
	handler := New(f, o)
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL, &http.Client{Timeout: wait.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
}
