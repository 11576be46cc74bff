//go:build source

package provisioner

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/settings"
)

// llamaSource is a repository of llama.cpp b11434.
func llamaSource(t *testing.T) string {
	t.Helper()
	repo := os.Getenv("ENGINE_PROVISIONER_LLAMA_SOURCE")
	if repo == "" {
		t.Fatal("needs the source of llama.cpp: run make test-source")
	}
	return repo
}

// TestRealSource builds the real llama.cpp, starts it, asks it and stops it; "make test-source" runs it. With ccache it is
// built twice.
func TestRealSource(t *testing.T) {
	repo := llamaSource(t)
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Model.ID = filepath.Join(cfg.Dir, "tiny.gguf")
	if err := ggufgen.WriteFile(cfg.Model.ID, tiny); err != nil {
		t.Fatal(err)
	}
	cfg.Flags = []string{"--ctx-size", "256", "--threads", "1"}
	cfg.Provisioning = settings.Provisioning{Mode: "source", Source: &settings.Source{
		Repo: repo, Ref: "b11434", CMakeFlags: []string{"-DGGML_NATIVE=OFF"},
	}}
	builds := 1
	if _, err := exec.LookPath("ccache"); err == nil {
		builds = 2
	}
	for i := range builds {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Hour)
		defer cancel()
		began, last := time.Now(), ""
		p, err := New(cfg, WithCacheDir(filepath.Join(t.TempDir(), "cache")), WithEventFunc(func(e Event) {
			if e.Progress != nil && e.Progress.String() != last {
				last = e.Progress.String()
				t.Logf("%s  %s", time.Since(began).Round(time.Second), last)
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(ctx); err != nil {
			t.Fatal(err)
		}
		t.Logf("build %d: started after %s", i+1, time.Since(began).Round(time.Second))
		handoff, err := p.WaitReady(ctx)
		if err != nil || handoff.ProvisioningMode != "source" || !strings.HasPrefix(handoff.EngineVersion, "b11434-") || handoff.Answer != answerOK {
			t.Errorf("%+v, %v", handoff, err)
		}
		t.Logf("%s at %s answers: %s", handoff.EngineVersion, handoff.URL, handoff.Answer)
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
		nothingLeft(t, p)
	}
}

// TestRealCUDA has NVIDIA's own toolkit configure llama.cpp for a GPU that is not there, and compile one file of it. All of
// them would take hours.
func TestRealCUDA(t *testing.T) {
	root := os.Getenv("ENGINE_PROVISIONER_CUDA")
	if root == "" {
		t.Fatal("needs a CUDA toolkit: run make test-source")
	}
	t.Setenv("CUDA_HOME", root)
	t.Setenv("CUDACXX", "")
	const object = "ggml/src/ggml-cuda/CMakeFiles/ggml-cuda.dir/scale.cu.o"
	for name, c := range map[string]struct {
		flags, wants string
		logged       []string
	}{
		"one file": {
			flags: "-DCMAKE_CUDA_ARCHITECTURES=90 -DGGML_CUDA_NO_VMM=ON",
			// That is as far as it goes: no other file is compiled.
			wants: "name the target that makes it",
			logged: []string{
				"The CUDA compiler identification is NVIDIA ", "Using CMAKE_CUDA_ARCHITECTURES=90", "CUDA host compiler is GNU ",
				"Including CUDA backend", "Building CUDA object " + object,
			},
		},
		"no stub": {flags: "-DCMAKE_CUDA_ARCHITECTURES=90", wants: `or add "-DGGML_CUDA_NO_VMM=ON" to "cmake_flags"`},
		"no GPU to ask": {
			flags: "-DGGML_CUDA_NO_VMM=ON -DGGML_NATIVE=ON", wants: `name one's architecture in "cmake_flags"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if devices, _ := filepath.Glob("/dev/nvidia[0-9]*"); name == "no GPU to ask" && len(devices) > 0 {
				t.Skip("there is a GPU to ask")
			}
			if stub, _ := filepath.Glob(root + "/lib*/stubs/libcuda.so"); name == "no stub" && len(stub) > 0 {
				t.Skip("this toolkit has the stub")
			}
			cfg := fakeConfig(t, enginetest.Behavior{})
			cfg.Provisioning = settings.Provisioning{Mode: "source", Source: &settings.Source{
				Repo: llamaSource(t), Ref: "b11434", CMakeFlags: append([]string{"-DGGML_CUDA=ON"}, strings.Fields(c.flags)...),
				Generator: "ninja", Targets: []string{object}, // only ninja knows files as targets
			}}
			p, _ := newLaunch(t, cfg)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
			defer cancel()
			_, err := p.Prepare(ctx)
			wantText(t, err, c.wants)
			t.Log(err)
			var failed *acquire.Error
			if !errors.As(err, &failed) {
				t.Fatalf("%T", err)
			}
			log := string(mustRead(t, failed.Log))
			for _, line := range c.logged {
				if !strings.Contains(log, line) {
					t.Errorf("the log lacks %q:\n%s", line, log)
				}
			}
		})
	}
}
