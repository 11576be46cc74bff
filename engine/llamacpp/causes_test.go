package llamacpp_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/lastwords"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
)

func TestClassifyRecordedLogs(t *testing.T) {
	t.Parallel()
	want := map[string]engine.Cause{
		"model_missing": engine.CauseModelMissing, "model_unreadable": engine.CauseModelMissing, "mmproj_missing": engine.CauseModelMissing,
		"lora_missing": engine.CauseModelMissing,
		"not_gguf":     engine.CauseModelCorrupt, "empty_file": engine.CauseModelCorrupt, "directory": engine.CauseModelCorrupt,
		"truncated":    engine.CauseModelCorrupt,
		"cut_header":   engine.CauseModelCorrupt,
		"unknown_flag": engine.CauseBadFlag, "bad_value": engine.CauseBadFlag, "bad_value_choice": engine.CauseBadFlag,
		"missing_value": engine.CauseBadFlag, "removed_flag": engine.CauseBadFlag, "dropped_flag": engine.CauseBadFlag, "bad_env": engine.CauseBadFlag,
		"bad_device": engine.CauseDriver, "driver_from_source": engine.CauseDriver,
		"lib_missing": engine.CauseLibMissing, "no_backends": engine.CauseLibMissing,
		"port_in_use": engine.CausePortInUse, "host_not_local": engine.CausePortInUse, "tls_files": engine.CausePortInUse, // see explainBind
		"lora_arch": engine.CauseBadFlag, "lora_dims": engine.CauseBadFlag, "lora_text": engine.CauseModelCorrupt,
		"mmproj_wrong_kind": engine.CauseBadFlag, "mmproj_text": engine.CauseModelCorrupt, "mmproj_projector": engine.CauseModelCorrupt,
		"draft_text": engine.CauseModelCorrupt, "tensor_missing": engine.CauseModelCorrupt,
		"chat_template": engine.CauseBadFlag, "chat_template_file": engine.CauseBadFlag, "model_template": engine.CauseBadFlag,
		"kv_quantized_without_flash": engine.CauseBadFlag, "grammar": engine.CauseBadFlag, "static_path": engine.CauseBadFlag,
		"assert":   engine.CauseUnknown,
		"oom_host": engine.CauseOOMHost, "oom_host_buffer_from_source": engine.CauseOOMHost, "oom_gpu_from_source": engine.CauseOOMGPU,
	}
	files, err := filepath.Glob("testdata/logs/*.log")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d logs, %d expectations, %v", len(files), len(want), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		got := diagnosis.Find(lines, enginetable.Spec(t, llamacpp.Engine{}).Causes, lastwords.Last(lines))
		name := strings.TrimSuffix(filepath.Base(file), ".log")
		if got.Cause != want[name] || got.Evidence == "" {
			t.Errorf("%s: got %q by %q, want %q", name, got.Cause, got.Evidence, want[name])
		}
	}
	// A backend that cannot be loaded is left out, and is no reason to die.
	leftOut := []string{
		"load_backend: failed to load libggml-cuda.so: libc.so.6: version `GLIBC_2.38' not found",
		"ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate CPU buffer of size 17179869184",
	}
	if cause, _ := enginetable.CauseIn(leftOut, enginetable.Spec(t, llamacpp.Engine{}).Causes); cause != engine.CauseOOMHost {
		t.Errorf("a backend that is left out: %q", cause)
	}
	for _, lines := range [][]string{
		nil, {""}, {"srv  llama_server: exiting due to model loading error"}, {"listening on http://127.0.0.1:8081"},
	} {
		if cause, _ := enginetable.CauseIn(lines, enginetable.Spec(t, llamacpp.Engine{}).Causes); cause != engine.CauseUnknown {
			t.Errorf("%q: got %q, want %q", lines, cause, engine.CauseUnknown)
		}
	}
}

// The headline says what went wrong and what with, and the advice is about that.
func TestEvidence(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ evidence, advice string }{
		"mmproj_wrong_kind": {"mtmd_init_from_file: error: Failed to load CLIP model from tiny.gguf", "--mmproj"},
		"mmproj_projector":  {"clip_init: failed to load model 'clip_arch.gguf': load_hparams: unknown projector type: nonesuch", "projector"},
		"mmproj_text": {
			"gguf_init_from_reader: invalid magic characters: 'not ', expected 'GGUF' … " +
				"clip_init: failed to load model 'text.gguf': clip_model_loader: failed to load CLIP model from text.gguf. Does this file exist?",
			"projector",
		},
		"lora_arch": {"llama_adapter_lora_init_from_file_ptr: failed to apply lora adapter: model arch and LoRA arch mismatch", "--lora"},
		"lora_text": {
			"gguf_init_from_reader: invalid magic characters: 'not ', expected 'GGUF' … cmn  common_init_: failed to load lora adapter 'text.gguf'", "--lora",
		},
		"draft_text": {
			"gguf_init_from_reader: invalid magic characters: 'not ', expected 'GGUF' … common_speculative_init_result: failed to load draft model, 'text.gguf'", "draft",
		},
		"chat_template": {
			"common_chat_templates_init: error: parser: Parser Error: Expected }} (Got }) … " +
				"error: the supplied chat template is not supported: {% for m in messages %}{{ m.content }", "--chat-template-file",
		},
		"model_template": {
			"common_chat_templates_init: error: parser: Parser Error: Expected }} (Got }) … srv          init: init: chat template parsing error: std::exception", "chatml",
		},
		"kv_quantized_without_flash": {"llama_init_from_model: quantized V cache requires flash_attn to be enabled", ""},
		"static_path":                {"srv  init_listene: static assets path not found: /nonexistent", ""},
		"grammar":                    {"failed to parse grammar", ""},
		"assert":                     {"./src/llama-context.cpp:2384: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed", ""},
		"model_missing":              {"gguf_init_from_file: failed to open GGUF file '/models/missing.gguf' (No such file or directory)", ""},
		"bad_value":                  {`error while handling argument "--port": stoi`, ""},
	} {
		text, err := os.ReadFile(filepath.Join("testdata/logs", name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		got := diagnosis.Find(lines, enginetable.Spec(t, llamacpp.Engine{}).Causes, lastwords.Last(lines))
		if got.Evidence != want.evidence || !strings.Contains(got.Advice, want.advice) || want.advice == "" != (got.Advice == "") {
			t.Errorf("%s: %q, advice %q; want %q", name, got.Evidence, got.Advice, want.evidence)
		}
	}
}

func TestOffloadReport(t *testing.T) {
	t.Parallel()
	offload, noGPU := enginetable.Spec(t, llamacpp.Engine{}).Offload, enginetable.Spec(t, llamacpp.Engine{}).NoGPU
	m := offload.FindStringSubmatch("load_tensors: offloaded 33/33 layers to GPU")
	if m == nil || m[offload.SubexpIndex("used")] != "33" || m[offload.SubexpIndex("total")] != "33" {
		t.Errorf("got %q", m)
	}
	if !noGPU.MatchString("warning: no usable GPU found, --gpu-layers option will be ignored") {
		t.Error("the warning of a build without a GPU is not recognized")
	}
}

func FuzzClassify(f *testing.F) {
	files, err := filepath.Glob("testdata/logs/*.log")
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
		cause, evidence := enginetable.CauseIn(lines, enginetable.Spec(t, llamacpp.Engine{}).Causes)
		if cause != engine.CauseUnknown && evidence == "" {
			t.Errorf("cause %q by nothing", cause)
		}
		_ = diagnosis.Advice(cause)
	})
}
