package usage

import (
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
)

// at is a measurement some time after an hour that is as good as any.
func at(after time.Duration, cpu float64, tokens int64) *Usage {
	u := &Usage{Time: time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC).Add(after), CPUSeconds: cpu}
	if tokens >= 0 {
		u.Tokens = &tokens
	}
	return u
}

func TestRates(t *testing.T) {
	t.Parallel()
	type look struct {
		after  time.Duration
		cpu    float64
		tokens int64 // negative: not told
		// What is told then; negative: nothing.
		wantCPU, wantTokens float64
	}
	for name, looks := range map[string][]look{
		"the first one tells none": {{0, 7, 70, -1, -1}},
		"since the last look, at least 0.2 s": {
			{0, 0, 0, -1, -1},
			{time.Second, 2, 10, 2, 10},
			{time.Second + 100*time.Millisecond, 2.1, 10, 2.1 / 1.1, 10 / 1.1},
		},
		"tokens over 3 s": {
			{0, 0, 0, -1, -1},
			{time.Second, 0, 100, 0, 100},
			{4 * time.Second, 0, 100, 0, 0},
		},
		"a process has ended, and a request was called off": {{0, 9, 90, -1, -1}, {time.Second, 1, 10, 0, 0}},
		"an engine that has not answered meanwhile":         {{0, 0, 0, -1, -1}, {time.Second, 0, -1, 0, -1}, {2 * time.Second, 0, 30, 0, 15}},
		"what is old is forgotten":                          {{0, 0, 0, -1, -1}, {time.Minute, 60, 60, -1, -1}},
		"a clock that stands still":                         {{0, 0, 0, -1, -1}, {0, 1, 1, -1, -1}},
	} {
		var s samples
		for i, l := range looks {
			u := at(l.after, l.cpu, l.tokens)
			s.add(u)
			for what, is := range map[string]struct {
				got  *float64
				want float64
			}{"processors": {u.CPU, l.wantCPU}, "tokens": {u.TokenRate, l.wantTokens}} {
				switch {
				case is.got == nil && is.want >= 0:
					t.Errorf("%s, look %d: no rate of %s, want %v", name, i, what, is.want)
				case is.got != nil && (*is.got < is.want-1e-6 || *is.got > is.want+1e-6):
					t.Errorf("%s, look %d: %v %s a second, want %v", name, i, *is.got, what, is.want)
				}
			}
		}
	}
}

// A load is told by what the launch has taken of either memory, and never as more than the model.
func TestLoad(t *testing.T) {
	t.Parallel()
	l := &launch{}
	l.rec.Launch.ModelPath = "/models/chat.gguf"
	l.rec.Launch.Files = []filestamp.Stamp{{Size: 600}, {Size: 400}}
	var got []Load
	for i, memory := range []int64{100, 300, 2000} {
		u := at(time.Duration(i)*time.Second, 0, -1)
		u.Memory = memory
		if i == 1 {
			u.hold("GPU-b", 250)
			u.hold("GPU-a", 250)
		}
		l.samples.add(u)
		got = append(got, *l.load(u))
	}
	want := []Load{
		{Model: "chat.gguf", Done: 100, Total: 1000},
		{Model: "chat.gguf", Done: 300, Total: 1000, Rate: 200, Remaining: 3.5},
		{Model: "chat.gguf", Done: 1000, Total: 1000, Rate: 950},
	}
	want[1].Done, want[1].Rate, want[1].Remaining = 500, 400, 1.25 // by the GPUs
	if got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	l.rec.Launch.Files, l.rec.Launch.ModelPath, l.rec.Model = nil, "", "hf:owner/model"
	if got := l.load(at(3*time.Second, 0, -1)); got.Total != 0 || got.Remaining != 0 || got.Model != "hf:owner/model" {
		t.Errorf("of unknown size: %+v", got)
	}
}

func TestMemoryOfGPUs(t *testing.T) {
	t.Parallel()
	var u Usage
	for _, id := range []string{"GPU-b", "GPU-a", "GPU-b"} {
		u.hold(id, 5)
	}
	if len(u.GPUs) != 2 || u.GPUs[0] != (GPU{"GPU-a", 5}) || u.GPUs[1] != (GPU{"GPU-b", 10}) || *u.GPUMemory != 15 {
		t.Errorf("%+v", u)
	}
}

// Requests are told apart where the engine does so, and not at all where one of the series is missing.
func TestRequests(t *testing.T) {
	t.Parallel()
	whole := map[string]float64{"running": 2, "waiting": 3}
	for name, test := range map[string]struct {
		page             map[string]float64
		names, later     []string
		running, waiting int // negative: not told
	}{
		"apart":       {whole, []string{"running", "waiting"}, []string{"waiting"}, 2, 3},
		"together":    {whole, []string{"running", "waiting"}, nil, 5, -1},
		"one missing": {map[string]float64{"running": 2}, []string{"running", "waiting"}, []string{"waiting"}, -1, -1},
		"negative":    {map[string]float64{"running": -2, "waiting": 1}, []string{"running", "waiting"}, []string{"waiting"}, -1, -1},
		"no page":     {nil, []string{"running"}, nil, -1, -1},
		"no series":   {whole, nil, nil, -1, -1},
	} {
		var u Usage
		u.count(test.page, engine.Gauges{Names: test.names, Waiting: test.later})
		if is(u.Running) != test.running || is(u.Waiting) != test.waiting {
			t.Errorf("%s: %d running and %d waiting, want %d and %d", name, is(u.Running), is(u.Waiting), test.running, test.waiting)
		}
	}
}

func is(n *int) int {
	if n == nil {
		return -1
	}
	return *n
}
