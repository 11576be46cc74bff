package provisioner

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The environment of all tests with a real vLLM was made by mode package: "make test-vllm" has scripts/vllm.sh prepare a
// pools file. Here the same is asked for again by a start, which finds it, starts it and asks it.
func TestRealVLLMInstalled(t *testing.T) {
	t.Parallel()
	program, cfg := vllmProgram(t), vllmConfig(t)
	file, err := LoadConfig(os.Getenv("ENGINE_PROVISIONER_VLLM_POOLS"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Provisioning = file.Pools[0].Provisioning
	cfg.Provisioning.Package.Lock = filepath.Join(file.origin.Dir, cfg.Provisioning.Package.Lock)
	p, j := newLaunch(t, cfg, WithCacheDir("")) // that of the user, where it was installed
	if prepared, err := p.Prepare(atLeisure(t)); err != nil || prepared.Binary.Path != program {
		t.Errorf("prepared %q (%v), want %q", prepared.Binary.Path, err, program)
	}
	if err := p.Start(atLeisure(t)); err != nil {
		t.Fatal(err)
	}
	h, err := p.WaitReady(atLeisure(t))
	if err != nil || h.ProvisioningMode != "package" || h.EngineVersion != "0.32.0" || h.Answer != answerOK {
		t.Errorf("%+v, %v", h, err)
	}
	if notes := j.notes(); notes != "" {
		t.Errorf("notes: %s", notes)
	}
	if err := p.Stop(atLeisure(t)); err != nil && !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
}
