package provisioner

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

// args are the elements of flags, in order.
func args(flags []engine.Flag) []string { return LaunchPlan{Flags: flags}.Args() }

func TestCustomLaunch(t *testing.T) {
	t.Parallel()
	gpus := []engine.GPU{{UUID: "GPU-a"}, {UUID: "GPU-b"}}
	for _, test := range []struct {
		name string
		cfg  ProvisionConfig
		host engine.Host
		want []string
		env  map[string]string
	}{
		{
			name: "whole elements and after =",
			cfg: ProvisionConfig{
				Port: 8081, Model: ModelConfig{ID: "local:m"},
				Custom: &CustomConfig{Command: []string{
					"server", "{model}", "--model={model}", "--host", "{host}", "--port={port}", "--gpus={devices}", "--tmp", "{tmpdir}",
				}},
			},
			host: engine.Host{ModelPath: "/srv/m", GPUs: gpus},
			want: []string{"/srv/m", "--model=/srv/m", "--host", "127.0.0.1", "--port=8081", "--gpus=GPU-a,GPU-b", "--tmp", "{tmpdir}"},
		},
		{
			name: "one element with a value, and one after it",
			cfg:  ProvisionConfig{Port: 8081, Custom: &CustomConfig{Command: []string{"server", "-p{port}", "{host}"}}},
			want: []string{"-p8081", "127.0.0.1"},
		},
		{
			name: "words for a model, an address in one, and the CPU",
			cfg: ProvisionConfig{
				Port: 8081, Host: "::1", Model: ModelConfig{ID: "llama3.2:1b"},
				Custom: &CustomConfig{Command: []string{"server", "http://{host}:{port}/v1", "{model}", "--gpus", "{devices}"}},
			},
			want: []string{"http://[::1]:8081/v1", "llama3.2:1b", "--gpus", ""},
		},
		{
			name: "variables instead of arguments",
			cfg: ProvisionConfig{
				Port: 8081, Model: ModelConfig{ID: "llama3.2:1b"},
				Custom: &CustomConfig{
					Command: []string{"server", "serve", `{"not": "a placeholder"}`},
					Env:     map[string]string{"SERVER": "{host}:{port}", "LABEL": "it is {model}"},
				},
			},
			want: []string{"serve", `{"not": "a placeholder"}`},
			env:  map[string]string{"SERVER": "127.0.0.1:8081", "LABEL": "it is llama3.2:1b"},
		},
		{
			name: "flags come last, by their names, and are not filled in",
			cfg: ProvisionConfig{
				Port: 8081, Flags: []string{"-p", "-p=3", "{port}", "-n"},
				Custom: &CustomConfig{
					Command: []string{"server", "{host}", "{port}"}, Aliases: map[string]string{"-p": "--parallel"},
				},
			},
			want: []string{"127.0.0.1", "8081", "--parallel", "--parallel=3", "{port}", "-n"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			spec, err := launchOf(custom{}, test.cfg, test.host)
			if err != nil {
				t.Fatal(err)
			}
			if got := args(spec.Flags); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			if !maps.Equal(spec.Env, test.env) {
				t.Errorf("variables %v, want %v", spec.Env, test.env)
			}
			if spec.Health != "/health" || spec.Grace != 5*time.Second || spec.Metrics != nil || spec.Answer != nil {
				t.Errorf("defaults: %+v", spec)
			}
		})
	}
}

// What the plan tells of each element, and what only the provisioner may fill in.
func TestCustomExplains(t *testing.T) {
	t.Parallel()
	spec, err := launchOf(custom{}, ProvisionConfig{
		Port: 8081, Flags: []string{"-p", "{tmpdir}"}, Model: ModelConfig{ID: "llama"},
		Custom: &CustomConfig{
			Command: []string{"server", "run", "--listen={host}:{port}", "-m", "{model}", "{tmpdir}/cache"}, Aliases: map[string]string{"-p": "--parallel"},
		},
	}, engine.Host{})
	if err != nil {
		t.Fatal(err)
	}
	want := []engine.Flag{
		{Args: []string{"run"}, Origin: engine.OriginConfig, Key: "custom.command[1]"},
		{Args: []string{"--listen=127.0.0.1:8081"}, Origin: engine.OriginProvisioner, Key: "custom.command[2]", Note: "{host}, {port} filled in"},
		{Args: []string{"-m", "llama"}, Origin: engine.OriginProvisioner, Key: "custom.command[3]", Note: "{model} filled in"},
		{Args: []string{"{tmpdir}/cache"}, Origin: engine.OriginProvisioner, Key: "custom.command[5]", Note: "{tmpdir} filled in"},
		{Args: []string{"--parallel"}, Origin: engine.OriginConfig, Key: "flags[0]", Note: `rewritten from "-p"`},
		{Args: []string{"{tmpdir}"}, Origin: engine.OriginConfig, Key: "flags[1]"},
	}
	if !reflect.DeepEqual(spec.Flags, want) {
		t.Errorf("got  %+v\nwant %+v", spec.Flags, want)
	}
	if got := argsIn("/tmp/ep-1", spec.Flags); got[4] != "/tmp/ep-1/cache" || got[6] != "{tmpdir}" {
		t.Errorf("with a temporary folder: %q", got)
	}
}

func TestCustomQuestions(t *testing.T) {
	t.Parallel()
	spec, err := launchOf(custom{}, ProvisionConfig{
		Port: 8081, APIKey: &SecretRef{FromEnv: "KEY"}, Model: ModelConfig{ID: `say "hi"`},
		Custom: &CustomConfig{
			Command: []string{"server", "{host}", "{port}"}, KeyEnv: "SERVER_KEY", Health: "/", Grace: Duration(time.Minute),
			Version: &engine.Field{Path: "/v2", Key: "version"}, Metrics: &engine.MetricsContract{Path: "/metrics", Required: []string{"a_total"}}, Gauges: []string{"busy", "waiting"},
			Answer: &engine.AnswerRequest{Path: "/generate", Body: `{"model": "{model}"}`},
		},
	}, engine.Host{})
	if err != nil {
		t.Fatal(err)
	}
	spec.Flags, spec.Causes = nil, nil
	want := engine.LaunchSpec{
		Env: map[string]string{}, KeyEnv: "SERVER_KEY", Health: "/", Grace: time.Minute, Version: engine.Field{Path: "/v2", Key: "version"},
		Metrics: &engine.MetricsContract{Path: "/metrics", Required: []string{"a_total", "busy", "waiting"}},
		Gauges:  &engine.Gauges{Path: "/metrics", Names: []string{"busy", "waiting"}}, MustAnswer: true,
		Answer: &engine.AnswerRequest{Path: "/generate", Body: `{"model": "say \"hi\""}`},
	}
	if !reflect.DeepEqual(spec, want) {
		t.Errorf("got  %+v\nwant %+v", spec, want)
	}
}

func TestCustomCauses(t *testing.T) {
	t.Parallel()
	cfg := ProvisionConfig{Port: 8081, Custom: &CustomConfig{Command: []string{"server", "{host}", "{port}"}}}
	onCPU, err := launchOf(custom{}, cfg, engine.Host{})
	if err != nil {
		t.Fatal(err)
	}
	onGPU, err := launchOf(custom{}, cfg, engine.Host{GPUs: []engine.GPU{gpu0}})
	if err != nil {
		t.Fatal(err)
	}
	// By Triton 2.51.0, which goes on.
	const warning = `"Unable to allocate pinned system memory, pinned memory pool will not be available: ` +
		`CUDA driver version is insufficient for CUDA runtime version"`
	if got, _ := causeIn([]string{warning}, onCPU.Causes); got != engine.CauseUnknown {
		t.Errorf("on the CPU, a warning about the GPU is %s", got)
	}
	for line, want := range map[string]engine.Cause{
		"ModuleNotFoundError: No module named 'torch'":                                             engine.CauseLibMissing,
		"./server: error while loading shared libraries: libcudart.so.12: cannot":                  engine.CauseLibMissing,
		"OSError: [Errno 98] Address already in use":                                               engine.CausePortInUse,
		"serve.py: error: unrecognized arguments: --frobnicate":                                    engine.CauseBadFlag,
		"Error: unknown flag: --frobnicate":                                                        engine.CauseBadFlag,
		"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB":                   engine.CauseOOMGPU,
		"terminate called after throwing an instance of 'std::bad_alloc'":                          engine.CauseOOMHost,
		"RuntimeError: No CUDA-capable device is detected":                                         engine.CauseDriver,
		"error: invalid argument: --frobnicate":                                                    engine.CauseBadFlag,
		"server: unrecognized option '--frobnicate'":                                               engine.CauseBadFlag,
		"error: unexpected argument '--frobnicate' found":                                          engine.CauseBadFlag,
		"mmap: Invalid argument":                                                                   engine.CauseUnknown, // EINVAL of anything
		"ImportError: no flash_attn; going on without\ntorch.OutOfMemoryError: CUDA out of memory": engine.CauseOOMGPU,
		"Killed": engine.CauseUnknown,
	} {
		if got, _ := causeIn(strings.Split(line, "\n"), onGPU.Causes); got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

// customConfig runs the fake llama-server from configuration alone.
func customConfig(t testing.TB, b enginetest.Behavior) ProvisionConfig {
	t.Helper()
	cfg := fakeConfig(t, b)
	cfg.Model.ID = "local:" + cfg.Model.ID
	asCustom(t, &cfg)
	return cfg
}

// asCustom makes a replica of llama-server one of the engine "custom", as the example of that describes it.
func asCustom(t testing.TB, cfg *ProvisionConfig) {
	t.Helper()
	config, err := LoadConfig("examples/llama-server-custom.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Engine, cfg.Custom = "custom", config.Pools[0].Custom
	cfg.Custom.Command[0] = cfg.Provisioning.Binary.Path
	cfg.Provisioning.Binary = nil
}

func TestCustomLife(t *testing.T) {
	t.Parallel()
	cfg := customConfig(t, enginetest.Behavior{LoadTime: 20 * time.Millisecond})
	cfg.Custom.Env = map[string]string{"LLAMA_ARG_ALIAS": "{model}", "LLAMA_ARG_PORT": "{port}"} // not owned: any engine may be custom
	cfg.Custom.Aliases = map[string]string{"-ngl": "--n-gpu-layers"}
	cfg.Flags = []string{"-ngl", "0", "--slot-save-path", "{tmpdir}"}
	cfg.Custom.Command = append(cfg.Custom.Command, "--log-file", "{tmpdir}/log")
	keyFile := filepath.Join(cfg.Dir, "key")
	if err := os.WriteFile(keyFile, []byte("sk-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.APIKey = &SecretRef{FromFile: keyFile}
	p, j := ready(t, cfg)
	h := p.handoff
	model := strings.TrimPrefix(cfg.Model.ID, "local:")
	if h.Engine != "custom" || h.EngineVersion != "b11669-Fake" || h.Answer != answerOK || h.Model != (HandoffModel{cfg.Model.ID, model}) {
		t.Errorf("handoff %+v", h)
	}
	if got := p.Status().Version; got != h.EngineVersion {
		t.Errorf("the status says version %q", got)
	}
	if all, err := Statuses(cfg.StateDir); err != nil || len(all) != 1 || all[0].Version != h.EngineVersion {
		t.Errorf("statuses: %+v, %v", all, err)
	}
	report := enginetest.Inspect(t, h.URL)
	want := []string{
		"--model", model, "--host", "127.0.0.1", "--port", itoa(cfg.Port), "--metrics", "--parallel", "1",
		"--log-file", p.run.rec.TempDir + "/log", "--n-gpu-layers", "0", "--slot-save-path", "{tmpdir}",
	}
	if !reflect.DeepEqual(report.Argv, want) {
		t.Errorf("got  %q\nwant %q", report.Argv, want)
	}
	for _, want := range []string{"LLAMA_API_KEY=sk-secret", "LLAMA_ARG_ALIAS=" + model, "CUDA_VISIBLE_DEVICES="} {
		if !slices.Contains(report.Env, want) {
			t.Errorf("%s is not in the environment", want)
		}
	}
	if notes := j.notes(); notes != "" {
		t.Errorf("notes: %s", notes)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
	wantStates(t, j, StatePreparing, StateStarting, StateReady, StateDraining, StateStopping, StateStopped)
	for path, text := range filesBelow(t, cfg.StateDir) {
		if strings.Contains(text, "sk-secret") {
			t.Errorf("the key is in %s", path)
		}
	}
}

// A server that refuses the request that its configuration names is not ready, whatever its health path says.
func TestCustomMustAnswer(t *testing.T) {
	t.Parallel()
	cfg := customConfig(t, enginetest.Behavior{AnswerStatus: 404})
	p, _ := started(t, cfg)
	_, err := p.WaitReady(bounded(t))
	wantText(t, err, "the first token failed: /completion answers 404", "[cannot_answer]")
	awaitDone(t, p)
	nothingLeft(t, p)
}

func TestCustomProgramIsMissing(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"no-such-server":   `no executable "no-such-server" in PATH`,
		"./no-such-server": "cannot find the engine's executable",
	} {
		cfg := customConfig(t, enginetest.Behavior{})
		cfg.Custom.Command[0] = command
		_, err := Plan(bounded(t), cfg, WithCacheDir(t.TempDir()))
		wantText(t, err, want, `"custom.command"`)
	}
}

// A proof of the GPU by the driver's word alone, since nothing is known of what the server logs.
func TestCustomGPUProof(t *testing.T) {
	t.Parallel()
	spec, err := launchOf(custom{}, ProvisionConfig{Port: 1, Custom: &CustomConfig{Command: []string{"s", "{host}", "{port}"}}}, engine.Host{})
	if err != nil {
		t.Fatal(err)
	}
	prove := func(memory map[int]uint64) error {
		e := evidence(spec, []string{"offloaded 33/33 layers to GPU"}) // anybody can say so
		e.PIDs, e.Memory = []int{10, 11}, memory
		return e.Prove()
	}
	if err := prove(map[int]uint64{11: 1 << 30}); err != nil {
		t.Errorf("a child holds GPU memory: %v", err)
	}
	err = prove(map[int]uint64{12: 1 << 30})
	wantText(t, err, "none of its processes holds GPU memory")
}

// The real llama-server, of which this test tells nothing but the configuration.
func TestRealCustom(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	cfg.Model.ID = "local:" + cfg.Model.ID
	asCustom(t, &cfg)
	p, j := ready(t, cfg)
	if h := p.handoff; !strings.HasPrefix(h.EngineVersion, "b") || h.Answer != answerOK || statusAt(t, h.URL+"/metrics") != http.StatusOK {
		t.Errorf("%+v", h)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
	if notes := j.notes(); notes != "" {
		t.Errorf("notes: %s", notes)
	}
}

// The gauges that the configuration names hold up the stop, and one that is not there the start.
func TestCustomGauges(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, requestTime)
	cfg.Model.ID = "local:" + cfg.Model.ID
	asCustom(t, &cfg)
	p, j := ready(t, cfg)
	results := inFlight(t, cfg, 1, `{"prompt": "x"}`)
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if r := <-results; r.err != nil || r.status != http.StatusOK {
		t.Errorf("a request in flight got %+v", r)
	}
	wantNote(t, j, "1 request in flight")

	cfg = customConfig(t, enginetest.Behavior{})
	cfg.Custom.Gauges = []string{"llamacpp:requests_procesing"}
	p, _ = started(t, cfg)
	_, err := p.WaitReady(bounded(t))
	wantText(t, err, `/metrics lacks the series "llamacpp:requests_procesing"`)
	nothingLeft(t, p)
}

// Whatever the words of a model are, they stay one element of the command line, or a part of its value.
func FuzzCustomCommand(f *testing.F) {
	f.Add("{model}", "llama3.2:1b")
	f.Add("--model={model}", "{port} {model}")
	f.Add("exec server {model}", "x; rm -rf /")
	f.Add("{unknown}", "")
	f.Fuzz(func(t *testing.T, arg, model string) {
		cfg := ProvisionConfig{
			Port: 8081, Model: ModelConfig{ID: model}, Custom: &CustomConfig{Command: []string{"server", arg, "{host}", "{port}"}},
		}
		spec, err := launchOf(custom{}, cfg, engine.Host{})
		if err != nil {
			return
		}
		got := args(spec.Flags)
		if len(got) != 3 || got[1] != "127.0.0.1" || got[2] != "8081" {
			t.Fatalf("%q became %q", arg, got)
		}
		if name, has := strings.CutSuffix(arg, "{model}"); has && got[0] != name+model || !has && strings.Contains(arg, "{model}") {
			t.Errorf("%q became %q", arg, got[0])
		}
	})
}
