package provisioner

import (
	"os"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

// tgiHost has the flags of TGI 3.3 and two GPUs.
func tgiHost(t testing.TB) engine.Host {
	t.Helper()
	text, err := os.ReadFile("testdata/tgi/help-3.3.txt")
	if err != nil {
		t.Fatal(err)
	}
	return engine.Host{
		Binary:    engine.Binary{Path: "/usr/local/bin/text-generation-launcher", Version: "3.3.5", Build: version.Number("3.3.5"), Flags: flagline.ParseClap(string(text))},
		ModelPath: "/models/chat", GPUs: []engine.GPU{{UUID: "GPU-1"}, {UUID: "GPU-2"}},
	}
}

func TestTGILaunch(t *testing.T) {
	t.Parallel()
	host := tgiHost(t)
	hub, cpu, old := host, host, host
	hub.ModelPath = ""
	cpu.GPUs = nil
	old.Binary.Flags = engine.FlagSet{Defs: []engine.FlagDef{{Names: []string{"--master-port"}, Value: "MASTER_PORT"}}}
	testLaunches(t, tgi.Engine{}, []launchCase{
		{name: "folder", host: host},
		{name: "hub", host: hub, model: "hf:Qwen/Qwen3-0.6B"},
		{name: "hub_pinned", host: hub, model: "hf:Qwen/Qwen3-0.6B@main"},
		{name: "cpu", host: cpu, cfg: func(c *ProvisionConfig) { c.GPU = GPUNone }},
		{
			name: "user", host: host, env: map[string]EnvValue{"NUM_SHARD": {Value: "1"}, "HF_TOKEN": {Value: "x"}},
			flags: []string{"--max_total_tokens=4096", "--quantize", "awq", "--max-input-length", "100", "--graceful-termination-timeout", "10", "--json-output"},
		},
		{name: "old", host: old},
		{name: "no_facts"},
	}, "launches")
}

func TestTGIBadFlags(t *testing.T) {
	t.Parallel()
	host := tgiHost(t)
	testLaunches(t, tgi.Engine{}, []launchCase{
		{name: "owned", host: host, flags: []string{
			"--model-id", "x", "--hostname=0.0.0.0", "-p", "1", "-p8080", "--port=2", "--api-key", "s3cret", "--shard-uds-path", "/x",
			"--master-port", "1", "--prometheus-port=2", "--ngrok", "--env", "-V", "--revision", "main",
		}},
		{name: "env", host: host, env: map[string]EnvValue{
			"HOSTNAME": {Value: "x"}, "PORT": {Value: "1"}, "MODEL_ID": {Value: "x"}, "API_KEY": {Value: "s3cret"}, "SHARD_UDS_PATH": {Value: "/x"},
			"REVISION": {Value: "x"}, "MASTER_PORT": {Value: "1"}, "PROMETHEUS_PORT": {Value: "1"},
		}},
		{name: "repeated", host: host, flags: []string{"--num-shard", "2"}, env: map[string]EnvValue{"NUM_SHARD": {Value: "1"}}},
		{name: "unknown", host: host, flags: []string{"--max-token", "4096", "--sharded", "maybe", "--tp", "2"}},
	}, "badflags")
}

func TestTGIVersion(t *testing.T) {
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

// TestTGIPorts checks that no replica of a pool takes a port of another one, nor its own.
func TestTGIPorts(t *testing.T) {
	t.Parallel()
	for _, first := range []int{1, 8080, 19990, 20000, 26383, 26384, 32700, 65535 - 255} {
		taken := map[int]int{}
		for port := first; port < first+256; port++ {
			cfg := launchCase{cfg: func(c *ProvisionConfig) { c.Port = port }}.config(tgi.Engine{})
			spec, err := launchOf(tgi.Engine{}, cfg, engine.Host{})
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

func TestTGICauses(t *testing.T) {
	t.Parallel()
	testCauses(t, tgi.Engine{})
}
