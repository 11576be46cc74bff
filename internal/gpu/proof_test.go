package gpu

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

func TestProve(t *testing.T) {
	t.Parallel()
	spec := Words{
		Layers:   regexp.MustCompile(`offloaded (?P<used>\d+)/(?P<total>\d+) layers to GPU`),
		Fallback: regexp.MustCompile(`no usable GPU found`),
	}
	const (
		full   = "load_tensors: offloaded 33/33 layers to GPU"
		some   = "load_tensors: offloaded 10/33 layers to GPU"
		zero   = "load_tensors: offloaded 0/33 layers to GPU"
		broken = "load_tensors: offloaded 0/0 layers to GPU"
		warned = "warning: no usable GPU found, --gpu-layers option will be ignored"
	)
	tree := []int{100, 101}
	free := func(bytes engine.Bytes) []Device { g := gpu0; g.MemoryFree = bytes; return []Device{gpu1, g} }
	before := []Device{gpu0}
	unreadable := errors.New("not supported")

	tests := []struct {
		name   string
		spec   Words
		log    []string
		memory map[int]uint64
		memErr error
		after  []Device
		want   string // in the error; "" for a proof
	}{
		{name: "all layers", spec: spec, log: []string{"x", full}, memory: map[int]uint64{101: 5 << 30}},
		{name: "some layers", spec: spec, log: []string{some}, memory: map[int]uint64{101: 5 << 30}},
		{name: "the report alone", spec: spec, log: []string{full}, memErr: unreadable},
		{name: "the report where the driver sees other processes", spec: spec, log: []string{full}, memory: map[int]uint64{7: 1}},
		{name: "a draft model on the CPU", spec: spec, log: []string{full, zero}, memErr: unreadable},
		{name: "the driver alone", spec: spec, memory: map[int]uint64{7: 1, 101: 300 << 20}},
		{name: "an engine that reports nothing", memory: map[int]uint64{100: 300 << 20}},
		{name: "the driver in spite of an error", memory: map[int]uint64{100: 300 << 20}, memErr: unreadable},
		{name: "growth in a container", spec: spec, memory: map[int]uint64{4711: 1 << 30}, memErr: errForeignPIDs, after: free(38 << 30)},
		{name: "growth where the driver lists nobody", spec: spec, after: free(38 << 30)},
		{name: "growth where the driver has no number", spec: spec, memory: map[int]uint64{100: 0, 7: 1}, after: free(38 << 30)},
		{name: "just enough growth", spec: spec, memErr: unreadable, after: free(39<<30 - 32<<20)},

		{name: "its own words", spec: spec, log: []string{warned}, memory: map[int]uint64{100: 300 << 20}, want: "fell back to the CPU: \"" + warned},
		{name: "its own words against its report", spec: spec, log: []string{full, warned}, want: "fell back to the CPU"},
		{name: "zero layers in spite of a context", spec: spec, log: []string{zero}, memory: map[int]uint64{100: 300 << 20}, want: "put nothing on the GPU: \"" + zero},
		{name: "memory of others only", spec: spec, memory: map[int]uint64{7: 1 << 30}, want: "none of its processes holds GPU memory"},
		{name: "another replica grew", spec: spec, memory: map[int]uint64{7: 1 << 30}, after: free(30 << 30), want: "none of its processes holds GPU memory"},
		{name: "nobody and no growth", spec: spec, after: free(39 << 30), want: "no GPU memory is in use by it"},
		{name: "no number and no growth", spec: spec, memory: map[int]uint64{100: 0}, after: free(39 << 30), want: "no GPU memory is in use by it"},
		{name: "0 of 0 is no report", spec: spec, log: []string{broken}, memErr: unreadable, want: "cannot prove"},
		{name: "too little growth", spec: spec, memErr: unreadable, after: free(39<<30 - 31<<20), want: "cannot prove"},
		{name: "memory became free", spec: spec, memErr: unreadable, after: free(40 << 30), want: "cannot prove"},
		{name: "no evidence", spec: spec, memErr: unreadable, want: "cannot prove that the engine uses the GPU: it reported no weights and no layers on one, its GPUs' memory did not grow, and the driver could not tell: not supported"},
		{name: "the device is gone", spec: spec, memErr: unreadable, after: []Device{gpu1}, want: "cannot prove"},
		{name: "a pattern without the submatches", spec: Words{Layers: regexp.MustCompile(`offloaded`)}, log: []string{full}, memErr: unreadable, want: "cannot prove"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			all := Evidence{
				Words: tt.spec, Log: tt.log, PIDs: tree, Held: holdings(tt.memory), HeldErr: tt.memErr, Before: before, After: tt.after,
			}
			by, err := all.Prove()
			if (by == "") != (err != nil) {
				t.Errorf("proven by %q, %v", by, err)
			}
			all.Proven = true
			unseen := strings.Contains(tt.want, "cannot prove") || strings.Contains(tt.want, "no GPU memory is in use by it")
			if _, again := all.Prove(); (again == nil) != (err == nil || unseen) {
				t.Errorf("after a proof: %v", again)
			}
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v, want a proof", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q in it", err, tt.want)
			}
			if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Advice, `"gpu: none"`) {
				t.Errorf("%T without advice: %v", err, err)
			}
		})
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	if got, err := Processes(&fakeGPUs{memory: map[int]uint64{1: 2}, err: bad}, nil); !errors.Is(err, bad) || ByProcess(got)[1] != 2 {
		t.Errorf("got %v, %v", got, err)
	}
	got, err := Processes(&fakeGPUs{memory: map[int]uint64{1: 2}}, nil)
	if ByProcess(got)[1] != 2 {
		t.Errorf("got %v", got)
	}
	ns, _ := os.Readlink("/proc/self/ns/pid")
	if foreign := ns != initialPIDNamespace; foreign != errors.Is(err, errForeignPIDs) {
		t.Errorf("in the namespace %q: got the error %v", ns, err)
	}
}
