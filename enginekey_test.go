package provisioner

import (
	"os"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// The key of a running engine is found where the shell does not have its variable.
func TestEngineKey(t *testing.T) {
	t.Setenv("ENGINE_PROVISIONER_TEST_KEY", "sesame")
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.APIKey = &SecretRef{FromEnv: "ENGINE_PROVISIONER_TEST_KEY"}
	p, _ := ready(t, cfg)
	if err := os.Unsetenv("ENGINE_PROVISIONER_TEST_KEY"); err != nil {
		t.Fatal(err)
	}
	other, err := Attach(cfg.StateDir, "pool", "r0")
	if err != nil {
		t.Fatal(err)
	}
	count, err := other.counter(other.run, patience)
	if err != nil {
		t.Fatal(err)
	}
	if n, _, err := count(bounded(t)); n != 0 || err != nil {
		t.Errorf("%d requests (%v)", n, err)
	}
	if err := other.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}
