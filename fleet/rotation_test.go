package fleet

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/settings"
)

// A reload of an unchanged configuration replaces an engine whose key has changed, and no other.
func TestReloadOfARotatedKey(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	cfg.APIKey = &settings.SecretRef{FromFile: "key"}
	write := func(key string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(cfg.Dir, "key"), []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	answers := func(url, key string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(bounded(t), http.MethodGet, url+"/props", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	write("old")
	s, _ := superviseReady(t, cfg)
	was := s.Status()[0]
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 unchanged")
	write("new")
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 reloaded")
	if now := s.Status()[0]; now.PID == was.PID || now.State != provisioner.StateReady {
		t.Errorf("%+v, was %+v", now, was)
	}
	if code := answers(s.Status()[0].URL, "old"); code != http.StatusUnauthorized {
		t.Errorf("the old key: %d", code)
	}
	if code := answers(s.Status()[0].URL, "new"); code != http.StatusOK {
		t.Errorf("the new key: %d", code)
	}
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 unchanged")
}
