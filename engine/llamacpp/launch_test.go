package llamacpp_test

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
	"github.com/llama-orch/engine-provisioner/internal/test/golden"
)

// request asks for a launch with flags.
func request(flags ...string) engine.Request {
	return enginetable.Case{Model: "local:/models/m.gguf", Flags: flags}.Request()
}

// argv is the command line of a launch without the three flags of the provisioner.
func argv(t *testing.T, req engine.Request, host engine.Host) []string {
	t.Helper()
	spec, err := llamacpp.Engine{}.Launch(req, host)
	if err != nil {
		t.Fatalf("%q: %v", req.Flags, err)
	}
	var out []string
	for _, f := range spec.Flags[3:] {
		out = append(out, f.Args...)
	}
	return out
}

func TestLaunchMerge(t *testing.T) {
	t.Parallel()
	const (
		others      = "--parallel 1 --no-cont-batching --metrics --no-webui"
		defaults    = others + " --n-gpu-layers auto"
		oldDefaults = others + " --n-gpu-layers 999" // before the engine placed layers by itself
	)
	for _, tt := range []struct {
		name  string
		flags string
		env   map[string]string
		gpu   engine.GPUPolicy
		host  func(testing.TB) engine.Host
		want  string
	}{
		{name: "defaults", want: defaults},
		{name: "seed file", flags: "--parallel 1", want: "--no-cont-batching --metrics --no-webui --n-gpu-layers auto --parallel 1"},
		{name: "short form", flags: "-np 4", want: "--metrics --no-webui --n-gpu-layers auto --parallel 4"},
		{name: "several slots by env", env: map[string]string{"LLAMA_ARG_N_PARALLEL": "4"}, want: "--metrics --no-webui --n-gpu-layers auto"},
		{name: "slots by the engine", flags: "-np -1", want: "--metrics --no-webui --n-gpu-layers auto --parallel -1"},
		{name: "one slot by env", env: map[string]string{"LLAMA_ARG_N_PARALLEL": "1"}, want: "--no-cont-batching --metrics --no-webui --n-gpu-layers auto"},
		{name: "negation", flags: "-cb", want: "--parallel 1 --metrics --no-webui --n-gpu-layers auto --cont-batching"},
		{name: "alias of the web UI", flags: "--ui", want: "--parallel 1 --no-cont-batching --metrics --n-gpu-layers auto --ui"},
		{name: "metrics", flags: "--metrics", want: "--parallel 1 --no-cont-batching --no-webui --n-gpu-layers auto --metrics"},
		{
			name: "env twins", env: map[string]string{
				"LLAMA_ARG_N_PARALLEL": "2", "LLAMA_ARG_NO_CONT_BATCHING": "1",
				"LLAMA_ARG_N_GPU_LAYERS": "20", "LLAMA_ARG_UI": "true", "OMP_NUM_THREADS": "4",
			},
			want: "--metrics",
		},
		{name: "all layers by number", flags: "-ngl -1", want: others + " --n-gpu-layers -1"},
		{name: "all layers by number, old build", flags: "-ngl -1", host: enginetable.OldLlamaServer, want: oldDefaults},
		{name: "as many as fit, not fitted", flags: "-ngl auto --fit off", want: others + " --n-gpu-layers auto --fit off"},
		{name: "not fitted", flags: "--fit off", want: others + " --n-gpu-layers 999 --fit off"},
		{name: "all layers by word", flags: "--gpu-layers=all", want: others + " --n-gpu-layers all"},
		{name: "below -1", flags: "--ngl -2", want: others + " --n-gpu-layers -2"},
		{name: "as many as fit", flags: "-ngl auto", want: "--parallel 1 --no-cont-batching --metrics --no-webui --n-gpu-layers auto"},
		{name: "auto before b7553", flags: "-ngl auto", host: enginetable.OldLlamaServer, want: oldDefaults},
		{name: "some layers", flags: "--n_gpu_layers 20", want: "--parallel 1 --no-cont-batching --metrics --no-webui --n-gpu-layers 20"},
		{
			name: "no GPU wanted", gpu: engine.GPUNone,
			want: "--parallel 1 --no-cont-batching --metrics --no-webui --n-gpu-layers 0 --device none",
		},
		{
			name: "no GPU wanted, said twice", gpu: engine.GPUNone, flags: "-ngl 0 -dev none",
			want: "--parallel 1 --no-cont-batching --metrics --no-webui --n-gpu-layers 0 -dev none",
		},
		{name: "no layers, GPU optional", gpu: engine.GPUOptional, flags: "-ngl 0", want: "--parallel 1 --no-cont-batching --metrics --no-webui --n-gpu-layers 0"},
		{
			name: "no GPU there", gpu: engine.GPUOptional, flags: "-ngl 20", host: withoutGPU,
			want: "--parallel 1 --no-cont-batching --metrics --no-webui --n-gpu-layers 0",
		},
		{
			name: "no GPU there, layers by env", gpu: engine.GPUOptional, host: withoutGPU,
			env:  map[string]string{"LLAMA_ARG_N_GPU_LAYERS": "20"},
			want: "--parallel 1 --no-cont-batching --metrics --no-webui --n-gpu-layers 0",
		},
		{
			name: "all layers by env", env: map[string]string{"LLAMA_ARG_N_GPU_LAYERS": "-1"}, want: others,
		},
		{
			name: "all layers by env, old build", env: map[string]string{"LLAMA_ARG_N_GPU_LAYERS": "-1"}, host: enginetable.OldLlamaServer,
			want: oldDefaults,
		},
		{name: "bare flash attention", flags: "-fa --no-warmup", want: defaults + " -fa on --no-warmup"},
		{name: "flash attention at the end", flags: "--flash-attn", want: defaults + " --flash-attn on"},
		{name: "flash attention joined", flags: "-fa=auto", want: defaults + " -fa auto"},
		{name: "old flash attention", flags: "-fa", host: enginetable.OldLlamaServer, want: oldDefaults + " -fa"},
		{name: "old flash attention with a value", flags: "-fa on", host: enginetable.OldLlamaServer, want: oldDefaults + " -fa"},
		{name: "renamed", flags: "--no-mmap --draft-max=8 --draft-min 2", want: defaults + " --load-mode none --spec-draft-n-max 8 --spec-draft-n-min 2"},
		{name: "locked", flags: "--mlock", want: defaults + " --load-mode mmap+mlock"},
		{name: "locked and read", flags: "--no-mmap --mlock", want: defaults + " --load-mode mlock"},
		{name: "read and locked", flags: "--mlock --temp 1 --no-mmap", want: defaults + " --load-mode mlock --temp 1"},
		{name: "mapped and locked", flags: "--mlock --mmap", want: defaults + " --load-mode mmap+mlock"},
		{name: "a draft", flags: "-md d.gguf --draft-max 16", want: others + " --spec-type draft-simple --n-gpu-layers auto -md d.gguf --spec-draft-n-max 16"},
		{name: "a draft of a kind", flags: "-md d.gguf --spec-type draft-mtp", want: defaults + " -md d.gguf --spec-type draft-mtp"},
		{name: "a draft by env", env: map[string]string{"LLAMA_ARG_SPEC_DRAFT_MODEL": "d"}, want: others + " --spec-type draft-simple --n-gpu-layers auto"},
		{
			name: "drafts without a model", flags: "--draft-max 64 --spec-type ngram-mod --draft-min 8",
			want: defaults + " --spec-ngram-mod-n-max 64 --spec-type ngram-mod --spec-ngram-mod-n-min 8",
		},
		{name: "not yet renamed", flags: "--no-mmap --mlock --draft-max 8", host: enginetable.OldLlamaServer, want: oldDefaults + " --no-mmap --mlock --draft-max 8"},
		{name: "new name, old build", flags: "--no-ui", host: enginetable.OldLlamaServer, want: "--parallel 1 --no-cont-batching --metrics --n-gpu-layers 999 --no-webui"},
		{name: "slots", flags: "--slots-endpoint-disable", want: defaults + " --no-slots"},
		{name: "negative numbers", flags: "-n -1 --temp -.5 --keep=-1", want: defaults + " -n -1 --temp -.5 --keep -1"},
		{name: "a value like a flag", flags: "--alias -x --reverse-prompt=--metrics", want: defaults + " --alias -x --reverse-prompt --metrics"},
		{name: "two values", flags: "--control-vector-layer-range 1 -2", want: defaults + " --control-vector-layer-range 1 -2"},
		{name: "repeatable", flags: "--lora a --lora b -ot x=CPU --override-tensor y=CPU", want: defaults + " --lora a --lora b -ot x=CPU --override-tensor y=CPU"},
		{name: "no facts", flags: "--some-new-flag 5 -1 --no-mmap", host: noHost, want: defaults + " --some-new-flag 5 -1 --load-mode none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req, host := request(strings.Fields(tt.flags)...), enginetable.LlamaServer(t)
			if tt.env != nil {
				req.Env = tt.env
			}
			req.GPU = cmp.Or(tt.gpu, engine.GPURequired)
			if tt.host != nil {
				host = tt.host(t)
			}
			if got := strings.Join(argv(t, req, host), " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func withoutGPU(t testing.TB) engine.Host { h := enginetable.LlamaServer(t); h.GPUs = nil; return h }
func noHost(testing.TB) engine.Host       { return engine.Host{} }

func TestLaunchSpec(t *testing.T) {
	t.Parallel()
	req := request("-ngl=-1", "--seed", "-1")
	req.Host = "::1"
	spec, err := llamacpp.Engine{}.Launch(req, enginetable.LlamaServer(t))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range spec.Flags {
		fmt.Fprintf(&b, "%-35s %-12s %-9s %s\n", strings.Join(f.Args, " "), f.Origin, f.Key, f.Note)
	}
	golden.Check(t, "testdata/plan.txt", b.String())
	if spec.Health != "/health" || spec.Version != (engine.Field{Path: "/props", Key: "build_info"}) || spec.KeyEnv != "LLAMA_API_KEY" ||
		spec.Model != (engine.Field{Path: "/props", Key: "model_path"}) || spec.Grace != 5*time.Second || spec.Answer == nil ||
		spec.Metrics == nil || spec.Metrics.Path != "/metrics" || len(spec.Causes) == 0 {
		t.Errorf("incomplete spec %+v", spec)
	}
}

func TestLaunchMetricsOff(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"0": false, "false": false, "1": true, "true": true} {
		req := request()
		req.Env = map[string]string{"LLAMA_ARG_ENDPOINT_METRICS": value}
		spec, err := llamacpp.Engine{}.Launch(req, enginetable.LlamaServer(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := spec.Metrics != nil; got != want {
			t.Errorf("%s: metrics are expected: %v, want %v", value, got, want)
		}
	}
}

func TestLaunchReportsOffload(t *testing.T) {
	t.Parallel()
	verbosity := map[string]string{"LLAMA_ARG_LOG_VERBOSITY": "3"}
	for _, tt := range []struct {
		name   string
		change func(*engine.Request)
		host   engine.Host
		want   string
	}{
		{"required", func(*engine.Request) {}, enginetable.LlamaServer(t), "4"},
		{"optional", func(c *engine.Request) { c.GPU = engine.GPUOptional }, enginetable.LlamaServer(t), ""},
		{"none", func(c *engine.Request) { c.GPU = engine.GPUNone }, enginetable.LlamaServer(t), ""},
		{"user's flag", func(c *engine.Request) { c.Flags = []string{"-lv", "3"} }, enginetable.LlamaServer(t), ""},
		{"user's variable", func(c *engine.Request) { c.Env = verbosity }, enginetable.LlamaServer(t), ""},
		{"old build", func(*engine.Request) {}, enginetable.OldLlamaServer(t), ""},
	} {
		req := request()
		tt.change(&req)
		spec, err := llamacpp.Engine{}.Launch(req, tt.host)
		if err != nil {
			t.Fatal(err)
		}
		if got := spec.Env["LLAMA_ARG_LOG_VERBOSITY"]; got != tt.want {
			t.Errorf("%s: verbosity %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestLaunchWithoutHost checks that a plan can be made, and most mistakes found, before the host is looked at.
func TestLaunchWithoutHost(t *testing.T) {
	t.Parallel()
	spec, err := llamacpp.Engine{}.Launch(request(), engine.Host{})
	if err != nil || len(spec.Flags) != 8 {
		t.Errorf("got %d flags, %v", len(spec.Flags), err)
	}
	_, err = llamacpp.Engine{}.Launch(request("--port", "1", "-np", "1", "-np", "2", "--temp"), engine.Host{})
	var bad *engine.ConfigError
	if !errors.As(err, &bad) || len(bad.Problems) != 3 {
		t.Errorf("got %v, want three problems", err)
	}
}

// TestBadFlags keeps what a user sees of wrong flags: testdata/badflags holds the message for each.
func TestBadFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range badFlags {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			host := enginetable.LlamaServer(t)
			if tt.host != nil {
				host = tt.host(t)
			}
			req := request(tt.flags...)
			if tt.env != nil {
				req.Env = tt.env
			}
			req.GPU = cmp.Or(tt.gpu, engine.GPURequired)
			_, err := llamacpp.Engine{}.Launch(req, host)
			var bad *engine.ConfigError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a *ConfigError", err)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the message tells a secret: %v", err)
			}
			golden.Check(t, filepath.Join("testdata/badflags", tt.name+".txt"), err.Error()+"\n")
		})
	}
	var names []string
	for _, b := range badFlags {
		names = append(names, b.name)
	}
	golden.AllUsed(t, "testdata/badflags/*.txt", names)
}

type badFlag struct {
	name  string
	flags []string
	env   map[string]string
	gpu   engine.GPUPolicy
	host  func(testing.TB) engine.Host
}

var badFlags = []badFlag{
	{name: "model", flags: []string{"-m", "/x.gguf"}},
	{name: "model_joined", flags: []string{"--model=/x.gguf"}},
	{name: "model_download", flags: []string{"-hf", "user/repo:Q4_K_M"}},
	{name: "model_url", flags: []string{"--model_url", "x"}},
	{name: "model_preset", flags: []string{"--gpt-oss-20b-default"}},
	{name: "host", flags: []string{"--host", "0.0.0.0"}},
	{name: "port", flags: []string{"--parallel", "1", "--port=9000"}},
	{name: "reuse_port", flags: []string{"--reuse-port"}},
	{name: "api_key", flags: []string{"--api-key", "s3cret"}},
	{name: "api_key_joined", flags: []string{"--api-key=s3cret"}},
	{name: "api_key_one_element", flags: []string{"--api-key s3cret"}},
	{name: "api_key_two", flags: []string{"--api-key", "s3cret", "s3cret2"}},
	{name: "api_key_misspelt", flags: []string{"--apikey=s3cret", "--api-keys", "s3cret"}},
	{name: "api_key_env", env: map[string]string{"LLAMA_API_KEY": "s3cret"}},
	{name: "hf_token", flags: []string{"-hft", "s3cret"}},
	{name: "router", flags: []string{"--models-dir", "/models"}},
	{name: "api_prefix", flags: []string{"--api-prefix", "/llm"}},
	{name: "tls", flags: []string{"--ssl-key-file", "k.pem", "--ssl-cert-file", "c.pem"}},
	{name: "log_file", flags: []string{"--log-file", "x.log"}},
	{name: "exits", flags: []string{"--help", "--version", "--list-devices"}},
	{name: "unknown", flags: []string{"--paralel", "4"}},
	{name: "unknown_joined", flags: []string{"--ctxsize=4096"}},
	{name: "unknown_short", flags: []string{"-ngx", "4"}},
	{name: "unknown_far", flags: []string{"--tensor-parallel-size", "2"}},
	{name: "unknown_here", flags: []string{"--load-mode", "mlock"}, host: enginetable.OldLlamaServer},
	{name: "missing_value", flags: []string{"--parallel"}},
	{name: "missing_value_between", flags: []string{"--ctx-size", "--metrics"}},
	{name: "missing_value_of_two", flags: []string{"--control-vector-layer-range", "1"}},
	{name: "value_for_switch", flags: []string{"--metrics", "1"}},
	{name: "value_for_switch_joined", flags: []string{"--metrics=true"}},
	{name: "stray", flags: []string{"model.gguf"}},
	{name: "stray_number", flags: []string{"--parallel", "1", "-1"}},
	{name: "empty_element", flags: []string{"", "--metrics"}},
	{name: "one_element", flags: []string{"--parallel 4"}},
	{name: "not_a_number", flags: []string{"--ctx-size", "big"}},
	{name: "not_a_choice", flags: []string{"--split-mode", "rows"}},
	{name: "flash_attn_value", flags: []string{"-fa", "yes"}},
	{name: "flash_attn_old", flags: []string{"-fa", "off"}, host: enginetable.OldLlamaServer},
	{name: "layers_word", flags: []string{"-ngl", "most"}},
	{name: "layers_fraction", flags: []string{"-ngl", "3.7"}},
	{name: "layers_without_gpu", flags: []string{"-ngl", "-1"}, gpu: engine.GPUNone},
	{name: "layers_without_gpu_env", env: map[string]string{"LLAMA_ARG_N_GPU_LAYERS": "99"}, gpu: engine.GPUNone},
	{name: "layers_none_gpu_required", flags: []string{"-ngl", "0"}},
	{name: "device_without_gpu", flags: []string{"-dev", "CUDA0"}, gpu: engine.GPUNone},
	{name: "device_without_gpu_env", env: map[string]string{"LLAMA_ARG_DEVICE": "CUDA0"}, gpu: engine.GPUNone},
	{name: "repeated", flags: []string{"--metrics", "--metrics"}},
	{name: "repeated_alias", flags: []string{"-ngl", "20", "--gpu-layers=30"}},
	{name: "repeated_env", flags: []string{"-c", "4096"}, env: map[string]string{"LLAMA_ARG_CTX_SIZE": "8192"}},
	{name: "repeated_by_rename", flags: []string{"--mmap", "--no-mmap"}},
	{name: "contradiction", flags: []string{"-cb", "--no-cont-batching"}},
	{name: "contradiction_ui", flags: []string{"--no-webui", "--ui"}},
	{name: "removed", flags: []string{"--log-format", "json", "-spf", "x", "--grp-attn-n", "4", "-ns", "2"}},
	{name: "removed_ngram", flags: []string{"--spec-ngram-size-n", "3"}},
	{name: "env_owned", env: map[string]string{"LLAMA_ARG_PORT": "1", "LLAMA_ARG_HOST": "x", "AIP_MODE": "PREDICTION"}},
	{name: "env_ignored", env: map[string]string{"LLAMA_ARG_MLOCK": "1", "LLAMA_ARG_CTXSIZE": "1"}},
	{name: "many", flags: []string{"x", "--port", "1", "--bogus", "-np", "1", "-np", "2", "--temp"}},
}

func TestRecordedHelpIsReal(t *testing.T) {
	t.Parallel()
	// Every flag that we put on a command line by ourselves is one that the recorded llama-server lists.
	set, dialect := enginetable.LlamaServer(t).Binary.Flags, llamacpp.Engine{}.Dialect()
	for _, d := range dialect.Defaults {
		if !flagline.Has(set, d.Args[0][0]) {
			t.Errorf("%q is not listed", d.Args[0][0])
		}
	}
	for _, c := range dialect.Changes {
		if c.To != nil && !flagline.Has(set, c.To[0]) {
			t.Errorf("%q becomes %q, which is not listed", c.Old, c.To[0])
		}
	}
}

func TestBuiltinFlags(t *testing.T) {
	t.Parallel()
	enginetable.BuiltinFlags(t, enginetable.Recorded(t, "llamacpp/testdata/help-b11669.txt"), flagline.ParseLlama, enginetable.LlamaLine)
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	enginetable.Normalized(t, llamacpp.Engine{}.Dialect(), map[string]string{
		"":                                 "",
		"--gpu-layers|20":                  "--n-gpu-layers|20",
		"--gpu-layers=20":                  "--n-gpu-layers|20",
		"--ngl|20":                         "--n-gpu-layers|20",
		"--ngl=20":                         "--n-gpu-layers|20",
		"-ngl|20":                          "--n-gpu-layers|20",
		"-ngl=-1":                          "--n-gpu-layers|-1",
		"--n_gpu_layers=all":               "--n-gpu-layers|all",
		"-nocb|-cb":                        "--no-cont-batching|--cont-batching",
		"--override-tensor=blk=CPU":        "--override-tensor|blk=CPU",
		"--alias=":                         "--alias|",
		"--alias|-ngl":                     "--alias|-ngl",
		"--alias|--gpu-layers=3":           "--alias|--gpu-layers=3",
		"-fa":                              "-fa",
		"-fa|-ngl|3":                       "-fa|--n-gpu-layers|3",
		"-fa=on":                           "-fa|on",
		"-fa=-ngl":                         "-fa=-ngl",
		"--metrics=true":                   "--metrics=true",
		"--control-vector-layer-range=1 2": "--control-vector-layer-range=1 2",
		"--unknown=1|x y| -ngl":            "--unknown=1|x y| -ngl",
		"--draft-max=3":                    "--draft-max|3",
		"-n|-1|stray|-2":                   "-n|-1|stray|-2",
		"--parallel":                       "--parallel",
	})
}

func FuzzFlags(f *testing.F) {
	enginetable.FuzzFlags(f, llamacpp.Engine{}, enginetable.LlamaServer(f), enginetable.OldLlamaServer(f))
}
