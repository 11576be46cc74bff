package provisioner

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// cudaTools puts programs of these names into PATH.
func cudaTools(t *testing.T, names ...string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		writeProgram(t, filepath.Join(dir, name), "#!/bin/sh\nexit 1\n")
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// hideOlderCompilers leaves out of PATH what is named g++-12 and the like.
func hideOlderCompilers(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, from := range filepath.SplitList(os.Getenv("PATH")) {
		programs, _ := os.ReadDir(from) // a folder of PATH need not be there
		for _, p := range programs {
			if strings.HasPrefix(p.Name(), "g++-") || access.Exists(filepath.Join(dir, p.Name())) {
				continue
			}
			if err := os.Symlink(filepath.Join(from, p.Name()), filepath.Join(dir, p.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", dir)
}

// A CUDA build that cannot be had is an error, never a build for the CPU. nvcc's refusal of a compiler is answered once,
// with an older one.
func TestCUDABuild(t *testing.T) {
	const found = `set(CMAKE_CUDA_COMPILER nvcc CACHE FILEPATH "")`
	const tooNew = `if(NOT CMAKE_CUDA_HOST_COMPILER)
  message(FATAL_ERROR "host_config.h:143:2: error: #error -- unsupported GNU version! gcc versions later than 13 are not supported!")
endif()
file(APPEND "${LEDGER}" "${CMAKE_CUDA_HOST_COMPILER}\n")
`
	for name, c := range map[string]struct {
		tools, lists, want, ledger string
	}{
		"with CUDA":        {"nvcc", found, "", ""},
		"falls back":       {"nvcc", `message(WARNING "CUDA not found")`, "the project was configured without it; the log says why", ""},
		"older compiler":   {"nvcc g++-12", tooNew + found, "", "g++-12"},
		"no such compiler": {"nvcc", tooNew + found, "nvcc refuses the C++ compiler as too new, and none of g++-13, g++-12, ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no such compiler" {
				hideOlderCompilers(t)
			}
			p := newProject(t)
			p.commit(map[string]string{"CMakeLists.txt": projectLists + c.lists})
			cudaTools(t, strings.Fields(c.tools)...)
			cfg, ledger := p.config("main", "-DLLAMA_CUBLAS=ON", "-DCMAKE_CUDA_ARCHITECTURES=86")
			engine, j := newLaunch(t, cfg)
			_, err := engine.Prepare(patiently(t))
			if c.want == "" && err != nil || !strings.Contains(ledger(), c.ledger) {
				t.Errorf("%v, %q", err, ledger())
			}
			if c.want != "" {
				wantText(t, err, c.want, "[build_failed]")
			}
			if name == "with CUDA" && !strings.Contains(j.notes(), `does not know "GGML_CUDA"`) {
				t.Errorf("notes: %q", j.notes()) // this project has no use for it
			}
		})
	}
}

// A toolkit that is not in PATH is found, and cmake is told where.
func TestToolkitOutsidePath(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	nvcc := filepath.Join(root, "bin", "nvcc")
	writeProgram(t, nvcc, "#!/bin/sh\nexit 1\n")
	p := newProject(t)
	p.commit(map[string]string{"CMakeLists.txt": projectLists + `file(APPEND "${LEDGER}" "${CMAKE_CUDA_COMPILER} ${CUDAToolkit_ROOT}\n")`})
	t.Setenv("CUDA_HOME", root)
	t.Setenv("CUDACXX", "")
	cfg, ledger := p.config("main", "-DGGML_CUDA=ON")
	plan, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir()))
	if err != nil || !strings.Contains(plan.Pending[0], nvcc) {
		t.Errorf("%q, %v", plan.Pending, err)
	}
	engine, _ := newLaunch(t, cfg)
	if _, err := engine.Prepare(patiently(t)); err != nil || !strings.Contains(ledger(), nvcc+" "+root+"\n") {
		t.Errorf("%v, %q", err, ledger())
	}
}

// The example for an RTX 3090 builds for its architecture.
func TestPlanExampleSource(t *testing.T) {
	for _, tool := range []string{"git", "cmake", "cc"} {
		if _, err := exec.LookPath(tool); err != nil {
			skip(t, "a build needs "+tool)
		}
	}
	cudaTools(t, "nvcc")
	c := mustLoad(t, "examples/llamacpp-3090-source.yaml")
	cfgs, err := c.Replicas("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := cfgs[0]
	cfg.Model.ID = filepath.Join(t.TempDir(), "model.gguf") // the example's is nowhere
	if err := ggufgen.WriteFile(cfg.Model.ID, tiny); err != nil {
		t.Fatal(err)
	}
	gpus := &fakeGPUs{gpus: []engine.GPU{{Index: 0, UUID: "GPU-8dd4c4a1", Name: "NVIDIA GeForce RTX 3090"}}}
	plan, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir()), withGPUs(gpus))
	if err != nil || len(plan.Pending) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	for _, part := range []string{"build llama-server from https://", " at b11434 ", "-DCMAKE_CUDA_ARCHITECTURES=86", "-DGGML_CUDA=ON"} {
		if !strings.Contains(plan.Pending[0], part) {
			t.Errorf("%q lacks %q", plan.Pending[0], part)
		}
	}
	if len(plan.GPUs) != 1 || !strings.Contains(strings.Join(plan.Args(), " "), "--n-gpu-layers auto") {
		t.Errorf("%+v, %q", plan.GPUs, plan.Args())
	}
}

func TestSubmodules(t *testing.T) {
	p := newProject(t)
	inner := project{t, t.TempDir()}
	inner.git("init", "--quiet", "--initial-branch=main")
	inner.commit(map[string]string{"deep.c": "const char *word(void) { return \"llama-server\"; }\n"})
	t.Setenv("GIT_ALLOW_PROTOCOL", "file") // git refuses it for submodules otherwise
	p.git("submodule", "--quiet", "add", inner.dir, "inner")
	p.commit(map[string]string{"CMakeLists.txt": strings.Replace(projectLists, "words.c", "inner/deep.c", 1)})
	cfg, _ := p.config("main")
	engine, _ := newLaunch(t, cfg)
	_, err := engine.Prepare(patiently(t))
	wantText(t, err, "inner/deep.c")
	cfg.Provisioning.Source.Submodules = true
	engine, _ = newLaunch(t, cfg)
	if _, err := engine.Prepare(patiently(t)); err != nil {
		t.Error(err)
	}
}
