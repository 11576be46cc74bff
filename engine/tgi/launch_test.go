package tgi_test

import (
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
)

func TestLaunch(t *testing.T) {
	t.Parallel()
	host := enginetable.TGI(t)
	hub, cpu, old := host, host, host
	hub.ModelPath = ""
	cpu.GPUs = nil
	old.Binary.Flags = engine.FlagSet{Defs: []engine.FlagDef{{Names: []string{"--master-port"}, Value: "MASTER_PORT"}}}
	enginetable.Launches(t, tgi.Engine{}, []enginetable.Case{
		{Name: "folder", Host: host},
		{Name: "hub", Host: hub, Model: "hf:Qwen/Qwen3-0.6B"},
		{Name: "hub_pinned", Host: hub, Model: "hf:Qwen/Qwen3-0.6B@main"},
		{Name: "cpu", Host: cpu, Change: func(r *engine.Request) { r.GPU = engine.GPUNone }},
		{
			Name: "user", Host: host, Env: map[string]string{"NUM_SHARD": "1", "HF_TOKEN": "x"},
			Flags: []string{"--max_total_tokens=4096", "--quantize", "awq", "--max-input-length", "100", "--graceful-termination-timeout", "10", "--json-output"},
		},
		{Name: "old", Host: old},
		{Name: "no_facts"},
	})
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	host := enginetable.TGI(t)
	enginetable.Refusals(t, tgi.Engine{}, []enginetable.Case{
		{Name: "owned", Host: host, Flags: []string{
			"--model-id", "x", "--hostname=0.0.0.0", "-p", "1", "-p8080", "--port=2", "--api-key", "s3cret", "--shard-uds-path", "/x",
			"--master-port", "1", "--prometheus-port=2", "--ngrok", "--env", "-V", "--revision", "main",
		}},
		{Name: "env", Host: host, Env: map[string]string{
			"HOSTNAME": "x", "PORT": "1", "MODEL_ID": "x", "API_KEY": "s3cret", "SHARD_UDS_PATH": "/x",
			"REVISION": "x", "MASTER_PORT": "1", "PROMETHEUS_PORT": "1",
		}},
		{Name: "repeated", Host: host, Flags: []string{"--num-shard", "2"}, Env: map[string]string{"NUM_SHARD": "1"}},
		{Name: "unknown", Host: host, Flags: []string{"--max-token", "4096", "--sharded", "maybe", "--tp", "2"}},
	})
}

func TestVersion(t *testing.T) {
	t.Parallel()
	parseVersion := tgi.Engine{}.Program(engine.Request{}).ParseVersion
	version, build, err := parseVersion("text-generation-launcher 3.3.6-dev0\n")
	if version != "3.3.6-dev0" || build != 3003006 || err != nil {
		t.Errorf("got %q, %d, %v", version, build, err)
	}
	if _, _, err := parseVersion("llama-server"); err == nil {
		t.Error("another program passes for TGI")
	}
}

// TestPorts checks that no replica of a pool takes a port of another one, nor its own.
func TestPorts(t *testing.T) {
	t.Parallel()
	for _, first := range []int{1, 8080, 19990, 20000, 26383, 26384, 32700, 65535 - 255} {
		taken := map[int]int{}
		for port := first; port < first+256; port++ {
			request := enginetable.Case{Change: func(r *engine.Request) { r.Port = port }}.Request()
			spec, err := tgi.Engine{}.Launch(request, engine.Host{})
			if err != nil || len(spec.Ports) != 2 {
				t.Fatalf("ports %v, %v", spec.Ports, err)
			}
			for _, side := range spec.Ports {
				if other, ok := taken[side.Number]; ok || side.Number == port || side.Number < 20000 || side.Number >= 32768 {
					t.Fatalf("%d: port %v is also that of %d, or out of place", port, side, other)
				}
				taken[side.Number] = port
			}
		}
	}
}

func TestCauses(t *testing.T) {
	t.Parallel()
	enginetable.Causes(t, tgi.Engine{})
}

func TestBuiltinFlags(t *testing.T) {
	t.Parallel()
	enginetable.BuiltinFlags(t, enginetable.Recorded(t, "tgi/testdata/help-3.3.txt"), flagline.ParseClap, enginetable.ClapLine)
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	enginetable.Normalized(t, tgi.Engine{}.Dialect(), map[string]string{
		"--num_shard|2|-p8080|--max-tot|1": "--num-shard|2|-p8080|--max-tot|1",
	})
}

func FuzzFlags(f *testing.F) { enginetable.FuzzFlags(f, tgi.Engine{}, enginetable.TGI(f)) }
