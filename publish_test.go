package provisioner

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// The flags are for people and programs that compare replicas: what differs between them by nature is in args alone.
func TestHandoffFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		user, want []string
		slots      int
	}{
		{nil, []string{"--parallel", "1", "--no-cont-batching", "--metrics", "--no-webui"}, 1},
		{[]string{"-c=8192", "-np", "3"}, []string{"--metrics", "--no-webui", "-c", "8192", "--parallel", "3"}, 3},
		{[]string{"--parallel", "-1"}, []string{"--metrics", "--no-webui", "--parallel", "-1"}, 4}, // which the engine says
	} {
		cfg := fakeConfig(t, enginetest.Behavior{})
		cfg.GPU, cfg.Flags = engine.GPUNone, c.user
		p, _ := ready(t, cfg)
		h, err := ReadHandoff(p.run.files.Handoff())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(h.Flags, c.want) {
			t.Errorf("%q: flags %q", c.user, h.Flags)
		}
		if got := enginetest.Inspect(t, h.URL).Argv; !slices.Equal(got, h.Args) || !slices.Contains(h.Args, cfg.Model.ID) {
			t.Errorf("%q: the engine got %q, args are %q", c.user, got, h.Args)
		}
		if h.SlotsTotal != c.slots || h.SlotsFree != c.slots || h.DeviceMask != "" || h.Schema != HandoffSchema {
			t.Errorf("%q: %+v", c.user, h)
		}
		if err := p.Stop(bounded(t)); err != nil {
			t.Error(err)
		}
	}
}

func TestHandoffDevices(t *testing.T) {
	t.Parallel()
	r := &run{rec: record{Process: proc.ID{PID: 2}, Launch: launchRecord{GPUs: []engine.GPU{gpuWith(0, 1), gpuWith(3, 1)}}}}
	if h := r.handoff(proof{}); h.DeviceMask != "GPU0,GPU3" || !slices.Equal(h.Devices, []string{"GPU-0000", "GPU-0003"}) {
		t.Errorf("%+v", h)
	}
}

// A record of a version that did not tell which flags are the user's is read by the order that its engines had.
func TestHandoffOfAnOldRecord(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--model /m.gguf --host 127.0.0.1 --port 8081 --parallel 1 --metrics":         "--parallel 1 --metrics",
		"serve /m --revision r --host 127.0.0.1 --port 1 --max-num-seqs 4":            "--max-num-seqs 4",
		"--model-id m --hostname 127.0.0.1 --port 1 --shard-uds-path /tmp/x/shard -x": "--shard-uds-path /tmp/x/shard -x",
		"--model /m.gguf --host 127.0.0.1 --port 1":                                   "",
		"server.py --listen 8081":                                                     "server.py --listen 8081",
		"server.py --port":                                                            "server.py --port",
	} {
		rec := launchRecord{Args: strings.Fields(args)}
		if got := rec.ownFlags(); strings.Join(got, " ") != want || got == nil {
			t.Errorf("%s: %q", args, got)
		}
	}
	if got := (launchRecord{Args: []string{"--port", "1", "-x"}, Flags: []string{}}).ownFlags(); len(got) != 0 {
		t.Errorf("none: %q", got)
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		engine Engine
		flags  []string
		want   int
	}{
		{llamacpp.Engine{}, nil, 1},
		{llamacpp.Engine{}, []string{"--parallel", "8"}, 8},
		{llamacpp.Engine{}, []string{"-np", "-1"}, 0},
		{vllm.Engine{}, nil, 0},
		{vllm.Engine{}, []string{"--max-num-seqs", "64"}, 64},
		{vllm.Engine{}, []string{"--max-num-seqs=64", "--data-parallel-size", "2"}, 0},
		{sglang.Engine{}, []string{"--max-running-requests", "16"}, 16},
		{tgi.Engine{}, nil, 0},
		{tgi.Engine{}, []string{"--max-batch-size", "4"}, 4},
	} {
		spec, err := launchOf(c.engine, ProvisionConfig{Port: 8081, GPU: engine.GPUOptional, Model: settings.Model{ID: "m"}, Flags: c.flags}, engine.Host{})
		if err != nil || spec.Slots != c.want {
			t.Errorf("%s %q: %d slots (%v)", c.engine.Name(), c.flags, spec.Slots, err)
		}
	}
	// The engine's own word counts for more, where it is one.
	for answer, want := range map[string]int{
		`{"total_slots":7}`: 7, `{"total_slots":0}`: 2, `{"total_slots":"7"}`: 2, `{"total_slots":1e300}`: 2, `{"total_slots":2.5}`: 2, `[`: 2,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		ask := probe.New("127.0.0.1", server.Listener.Addr().(*net.TCPAddr).Port, secret.Text{}, patience)
		if got := ask.Slots(bounded(t), probe.Field{Path: "/props", Key: "total_slots"}, 2); got != want {
			t.Errorf("%s: %d", answer, got)
		}
		server.Close()
	}
}
