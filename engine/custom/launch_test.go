package custom_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/custom"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
)

// args are the elements of flags, in order.
func args(flags []engine.Flag) (all []string) {
	for _, f := range flags {
		all = append(all, f.Args...)
	}
	return all
}

func TestCustomLaunch(t *testing.T) {
	t.Parallel()
	gpus := []engine.GPU{{UUID: "GPU-a"}, {UUID: "GPU-b"}}
	for _, test := range []struct {
		name string
		req  engine.Request
		host engine.Host
		want []string
		env  map[string]string
	}{
		{
			name: "whole elements and after =",
			req: engine.Request{
				Port: 8081, Model: engine.Model{ID: "local:m"},
				Custom: &engine.Custom{Command: []string{
					"server", "{model}", "--model={model}", "--host", "{host}", "--port={port}", "--gpus={devices}", "--tmp", "{tmpdir}",
				}},
			},
			host: engine.Host{ModelPath: "/srv/m", GPUs: gpus},
			want: []string{"/srv/m", "--model=/srv/m", "--host", "127.0.0.1", "--port=8081", "--gpus=GPU-a,GPU-b", "--tmp", "{tmpdir}"},
		},
		{
			name: "one element with a value, and one after it",
			req:  engine.Request{Port: 8081, Custom: &engine.Custom{Command: []string{"server", "-p{port}", "{host}"}}},
			want: []string{"-p8081", "127.0.0.1"},
		},
		{
			name: "words for a model, an address in one, and the CPU",
			req: engine.Request{
				Port: 8081, Host: "::1", Model: engine.Model{ID: "llama3.2:1b"},
				Custom: &engine.Custom{Command: []string{"server", "http://{host}:{port}/v1", "{model}", "--gpus", "{devices}"}},
			},
			want: []string{"http://[::1]:8081/v1", "llama3.2:1b", "--gpus", ""},
		},
		{
			name: "variables instead of arguments",
			req: engine.Request{
				Port: 8081, Model: engine.Model{ID: "llama3.2:1b"},
				Custom: &engine.Custom{
					Command: []string{"server", "serve", `{"not": "a placeholder"}`},
					Env:     map[string]string{"SERVER": "{host}:{port}", "LABEL": "it is {model}"},
				},
			},
			want: []string{"serve", `{"not": "a placeholder"}`},
			env:  map[string]string{"SERVER": "127.0.0.1:8081", "LABEL": "it is llama3.2:1b"},
		},
		{
			name: "flags come last, by their names, and are not filled in",
			req: engine.Request{
				Port: 8081, Flags: []string{"-p", "-p=3", "{port}", "-n"},
				Custom: &engine.Custom{
					Command: []string{"server", "{host}", "{port}"}, Aliases: map[string]string{"-p": "--parallel"},
				},
			},
			want: []string{"127.0.0.1", "8081", "--parallel", "--parallel=3", "{port}", "-n"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			spec, err := custom.Engine{}.Launch(test.req, test.host)
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
	spec, err := custom.Engine{}.Launch(engine.Request{
		Port: 8081, Flags: []string{"-p", "{tmpdir}"}, Model: engine.Model{ID: "llama"},
		Custom: &engine.Custom{
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
}

func TestCustomQuestions(t *testing.T) {
	t.Parallel()
	spec, err := custom.Engine{}.Launch(engine.Request{
		Port: 8081, HasKey: true, Model: engine.Model{ID: `say "hi"`},
		Custom: &engine.Custom{
			Command: []string{"server", "{host}", "{port}"}, KeyEnv: "SERVER_KEY", Health: "/", OpenAI: "/v1/", Grace: time.Minute,
			Version: &engine.Field{Path: "/v2", Key: "version"}, Metrics: &engine.MetricsContract{Path: "/metrics", Required: []string{"a_total"}}, Gauges: []string{"busy", "waiting"},
			Answer: &engine.AnswerRequest{Path: "/generate", Body: `{"model": "{model}"}`},
		},
	}, engine.Host{})
	if err != nil {
		t.Fatal(err)
	}
	spec.Flags, spec.Causes = nil, nil
	want := engine.LaunchSpec{
		Env: map[string]string{}, KeyEnv: "SERVER_KEY", Health: "/", OpenAI: "/v1", Grace: time.Minute, Version: engine.Field{Path: "/v2", Key: "version"},
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
	req := engine.Request{Port: 8081, Custom: &engine.Custom{Command: []string{"server", "{host}", "{port}"}}}
	onCPU, err := custom.Engine{}.Launch(req, engine.Host{})
	if err != nil {
		t.Fatal(err)
	}
	onGPU, err := custom.Engine{}.Launch(req, engine.Host{GPUs: []engine.GPU{{UUID: "GPU-0"}}})
	if err != nil {
		t.Fatal(err)
	}
	// By Triton 2.51.0, which goes on.
	const warning = `"Unable to allocate pinned system memory, pinned memory pool will not be available: ` +
		`CUDA driver version is insufficient for CUDA runtime version"`
	if got, _ := enginetable.CauseIn([]string{warning}, onCPU.Causes); got != engine.CauseUnknown {
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
		if got, _ := enginetable.CauseIn(strings.Split(line, "\n"), onGPU.Causes); got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

// Whatever the words of a model are, they stay one element of the command line, or a part of its value.
func FuzzCustomCommand(f *testing.F) {
	f.Add("{model}", "llama3.2:1b")
	f.Add("--model={model}", "{port} {model}")
	f.Add("exec server {model}", "x; rm -rf /")
	f.Add("{unknown}", "")
	f.Fuzz(func(t *testing.T, arg, model string) {
		req := engine.Request{
			Port: 8081, Model: engine.Model{ID: model}, Custom: &engine.Custom{Command: []string{"server", arg, "{host}", "{port}"}},
		}
		spec, err := custom.Engine{}.Launch(req, engine.Host{})
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
