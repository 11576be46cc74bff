package provisioner

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestClassifyRecordedLogs(t *testing.T) {
	t.Parallel()
	want := map[string]Cause{
		"model_missing": CauseModelMissing, "model_unreadable": CauseModelMissing, "mmproj_missing": CauseModelMissing,
		"lora_missing": CauseModelMissing,
		"not_gguf":     CauseModelCorrupt, "empty_file": CauseModelCorrupt, "directory": CauseModelCorrupt,
		"truncated":    CauseModelCorrupt,
		"cut_header":   CauseModelCorrupt,
		"unknown_flag": CauseBadFlag, "bad_value": CauseBadFlag, "bad_value_choice": CauseBadFlag,
		"missing_value": CauseBadFlag, "removed_flag": CauseBadFlag, "dropped_flag": CauseBadFlag, "bad_env": CauseBadFlag,
		"bad_device": CauseDriver, "driver_from_source": CauseDriver,
		"lib_missing": CauseLibMissing, "no_backends": CauseLibMissing,
		"port_in_use": CausePortInUse, "host_not_local": CausePortInUse,
		"oom_host": CauseOOMHost, "oom_host_buffer_from_source": CauseOOMHost, "oom_gpu_from_source": CauseOOMGPU,
	}
	files, err := filepath.Glob("testdata/llamacpp/logs/*.log")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d logs, %d expectations, %v", len(files), len(want), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		cause, evidence := classify(lines, llamaCauses)
		name := strings.TrimSuffix(filepath.Base(file), ".log")
		if cause != want[name] || !slices.Contains(lines, evidence) || evidence == "" {
			t.Errorf("%s: got %q by %q, want %q", name, cause, evidence, want[name])
		}
	}
	// A backend that cannot be loaded is left out, and is no reason to die.
	leftOut := []string{
		"load_backend: failed to load libggml-cuda.so: libc.so.6: version `GLIBC_2.38' not found",
		"ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate CPU buffer of size 17179869184",
	}
	if cause, _ := classify(leftOut, llamaCauses); cause != CauseOOMHost {
		t.Errorf("a backend that is left out: %q", cause)
	}
	for _, lines := range [][]string{
		nil, {""}, {"srv  llama_server: exiting due to model loading error"}, {"listening on http://127.0.0.1:8081"},
	} {
		if cause, evidence := classify(lines, llamaCauses); cause != CauseUnknown || evidence != "" {
			t.Errorf("%q: got %q by %q, want %q", lines, cause, evidence, CauseUnknown)
		}
	}
}

// A client of a ready engine names an image that cannot be downloaded; later the engine dies of something else.
func TestReadyEngineDiesOfNoDownload(t *testing.T) {
	t.Parallel()
	lines := []string{"requests.exceptions.ConnectTimeout: Max retries exceeded with url: /cat.png", "torch.AcceleratorError: CUDA error: unspecified launch failure"}
	for _, patterns := range [][]CausePattern{vllmCauses, sglangCauses, tgiCauses} {
		if cause, _ := classify(lines, patterns); cause != CauseDownload {
			t.Errorf("while loading: %q", cause)
		}
		if cause, _ := classify(lines, ofReady(patterns)); cause != CauseDriver {
			t.Errorf("once ready: %q", cause)
		}
	}
}

func TestCausesHaveAdvice(t *testing.T) {
	t.Parallel()
	hopeless := []Cause{CauseModelMissing, CauseModelCorrupt, CauseBadFlag, CauseLibMissing, CauseDriver}
	curable := []Cause{CausePortInUse, CauseOOMGPU, CauseOOMHost, CauseCannotAnswer, CauseDownload, CauseUnknown}
	for _, c := range slices.Concat(hopeless, curable) {
		if adviceFor(c) == "" {
			t.Errorf("%s: no advice", c)
		}
		if c != CauseUnknown && adviceFor(c) == adviceFor(CauseUnknown) {
			t.Errorf("%s: only the general advice", c)
		}
		if retryable(c) != slices.Contains(curable, c) {
			t.Errorf("%s: retryable is %v", c, retryable(c))
		}
	}
}

func TestOffloadReport(t *testing.T) {
	t.Parallel()
	m := llamaOffload.FindStringSubmatch("load_tensors: offloaded 33/33 layers to GPU")
	if m == nil || m[llamaOffload.SubexpIndex("used")] != "33" || m[llamaOffload.SubexpIndex("total")] != "33" {
		t.Errorf("got %q", m)
	}
	if !llamaNoGPU.MatchString("warning: no usable GPU found, --gpu-layers option will be ignored") {
		t.Error("the warning of a build without a GPU is not recognized")
	}
}

func FuzzClassify(f *testing.F) {
	files, err := filepath.Glob("testdata/llamacpp/logs/*.log")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, log string) {
		lines := strings.Split(log, "\n")
		cause, evidence := classify(lines, llamaCauses)
		if (cause == CauseUnknown) != (evidence == "") {
			t.Errorf("cause %q by %q", cause, evidence)
		}
		if evidence != "" && !slices.Contains(lines, evidence) {
			t.Errorf("evidence %q is not of the log", evidence)
		}
		_ = adviceFor(cause)
	})
}
