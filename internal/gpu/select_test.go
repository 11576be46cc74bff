package gpu

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/nvidia"
)

// fakeGPUs is a Driver that answers what it holds.
type fakeGPUs struct {
	gpus   []Device
	memory map[int]uint64
	held   []Holding
	err    error
	asked  atomic.Int32
}

func (f *fakeGPUs) GPUs() ([]Device, error) {
	f.asked.Add(1)
	return f.gpus, f.err
}

func (f *fakeGPUs) Processes([]int) ([]Holding, error) {
	return slices.Concat(f.held, holdings(f.memory)), f.err
}

// holdings are those of which it is not known on which device they are.
func holdings(memory map[int]uint64) (all []Holding) {
	for pid, n := range memory {
		all = append(all, Holding{PID: pid, Bytes: n})
	}
	return all
}

var (
	gpu0     = Device{Index: 0, UUID: "GPU-aa00", Name: "NVIDIA A100", MemoryTotal: 40 << 30, MemoryFree: 39 << 30}
	gpu1     = Device{Index: 1, UUID: "GPU-aa11", Name: "NVIDIA A100", MemoryTotal: 40 << 30, MemoryFree: 39 << 30}
	lostGPU  = Device{Index: 2, Problem: "it is lost (fell off the bus)"}
	sickGPU  = Device{Index: 3, UUID: "GPU-cc33", Problem: "its memory waits for remapping"}
	splitGPU = Device{Index: 4, UUID: "GPU-dd44", Problem: "it is split into MIG partitions; name one of them: MIG-e1, MIG-e2"}
	mig1     = Device{Index: 4, UUID: "MIG-e1"}
	mig2     = Device{Index: 4, UUID: "MIG-e2"}
	errNone  = &nvidia.Error{Text: "no NVIDIA driver (libnvidia-ml.so.1 not found)", Advice: "install the driver", Err: nvidia.ErrNoDriver}
)

func TestSelect(t *testing.T) {
	t.Parallel()
	node := []Device{gpu0, gpu1, lostGPU, sickGPU, splitGPU, mig1, mig2}
	tests := []struct {
		name    string
		policy  Policy
		names   []string
		gpus    []Device
		err     error
		want    []Device
		wantErr string
	}{
		{name: "all that work", gpus: node, want: []Device{gpu0, gpu1}},
		{name: "required is the default", policy: Required, gpus: node, want: []Device{gpu0, gpu1}},
		{name: "one partition where there is no whole GPU", gpus: []Device{splitGPU, mig1, mig2}, want: []Device{mig1}},
		{name: "index", names: []string{"1"}, gpus: node, want: []Device{gpu1}},
		{name: "the order is the user's", names: []string{"1", "0"}, gpus: node, want: []Device{gpu1, gpu0}},
		{name: "UUID", names: []string{"GPU-aa11"}, gpus: node, want: []Device{gpu1}},
		{name: "beginning of a UUID", names: []string{"GPU-aa1"}, gpus: node, want: []Device{gpu1}},
		{name: "partition", names: []string{"MIG-e2"}, gpus: node, want: []Device{mig2}},
		{
			name: "a UUID that is another's beginning", names: []string{"GPU-1"},
			gpus: []Device{{Index: 0, UUID: "GPU-12"}, {Index: 1, UUID: "GPU-1"}}, want: []Device{{Index: 1, UUID: "GPU-1"}},
		},
		{
			name: "no driver", err: errNone,
			wantErr: `cannot use the GPU: no NVIDIA driver (libnvidia-ml.so.1 not found); install the driver, or set "gpu: optional" or "gpu: none"`,
		},
		{
			name: "no device", gpus: nil,
			wantErr: `cannot use the GPU: no usable GPU: the driver works but lists no device; check that the driver sees it by "nvidia-smi -L", or set "gpu: optional" or "gpu: none"`,
		},
		{
			name: "nothing works", gpus: []Device{lostGPU, sickGPU},
			wantErr: `cannot use the GPU: no usable GPU: GPU 2: it is lost (fell off the bus); GPU 3 (GPU-cc33): its memory waits for remapping; repair it, or set "gpu: optional" or "gpu: none"`,
		},
		{
			name: "absent index", names: []string{"0", "7"}, gpus: []Device{gpu0, gpu1},
			wantErr: `cannot use GPU "7": there is no such GPU; there are: 0 (GPU-aa00), 1 (GPU-aa11)`,
		},
		{
			name: "absent UUID", names: []string{"GPU-ff"}, gpus: []Device{gpu0},
			wantErr: `cannot use GPU "GPU-ff": there is no such GPU; there are: 0 (GPU-aa00)`,
		},
		{
			name: "a lost GPU has no UUID that everything begins", names: []string{"GPU-ff"}, gpus: []Device{lostGPU},
			wantErr: `cannot use GPU "GPU-ff": there is no such GPU; there are: 2`,
		},
		{
			name: "an empty name is no beginning of all", names: []string{""}, gpus: []Device{gpu0},
			wantErr: `cannot use the GPU: there is no such GPU; there are: 0 (GPU-aa00)`,
		},
		{
			name: "no beginning of a UUID", names: []string{"G"}, gpus: []Device{gpu0},
			wantErr: `cannot use GPU "G": there is no such GPU; there are: 0 (GPU-aa00)`,
		},
		{
			name: "lost", names: []string{"2"}, gpus: node,
			wantErr: `cannot use GPU "2": it is lost (fell off the bus); or name another under "devices", or set "gpu: optional" or "gpu: none"`,
		},
		{
			name: "split", names: []string{"4"}, gpus: node,
			wantErr: `cannot use GPU "4": it is split into MIG partitions; name one of them: MIG-e1, MIG-e2; or name another under "devices", or set "gpu: optional" or "gpu: none"`,
		},
		{
			name: "ambiguous", names: []string{"GPU-aa"}, gpus: []Device{gpu0, gpu1},
			wantErr: `cannot use GPU "GPU-aa": it names more than one: 0 (GPU-aa00), 1 (GPU-aa11); write more of the UUID`,
		},
		{
			name: "the same twice", names: []string{"0", "GPU-aa0"}, gpus: []Device{gpu0, gpu1},
			wantErr: `cannot use GPU "GPU-aa0": it is the same device as "0"; leave one of the two out of "devices"`,
		},
		{
			name: "two partitions", names: []string{"MIG-e1", "MIG-e2"}, gpus: node,
			wantErr: `cannot use GPU "MIG-e1": CUDA gives a process one MIG partition and nothing beside it; name this one alone under "devices", or leave it out`,
		},
		{
			name: "a partition beside a GPU", names: []string{"0", "MIG-e2"}, gpus: node,
			wantErr: `cannot use GPU "MIG-e2": CUDA gives a process one MIG partition and nothing beside it; name this one alone under "devices", or leave it out`,
		},

		{name: "optional: all that work", policy: Optional, gpus: node, want: []Device{gpu0, gpu1}},
		{name: "optional: no driver", policy: Optional, err: errNone},
		{name: "optional: driver in a bad state", policy: Optional, err: errors.New("bad")},
		{name: "optional: no device", policy: Optional},
		{name: "optional: nothing works", policy: Optional, gpus: []Device{lostGPU, sickGPU}},
		{name: "optional: those that are there", policy: Optional, names: []string{"7", "GPU-ff", "3", "1"}, gpus: node, want: []Device{gpu1}},
		{name: "optional: none of them is there", policy: Optional, names: []string{"7"}, gpus: node},
		{
			name: "optional: the same twice", policy: Optional, names: []string{"0", "0"}, gpus: node,
			wantErr: `cannot use GPU "0": it is the same device as "0"; leave one of the two out of "devices"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			choice, err := Select(tt.policy, tt.names, Inventory{tt.gpus, tt.err}, Build{})
			got := choice.GPUs
			if text := errText(err); text != tt.wantErr {
				t.Fatalf("error:\n got %s\nwant %s", text, tt.wantErr)
			}
			if _, ok := errors.AsType[*Error](err); err != nil && !ok {
				t.Errorf("%T is no *Error", err)
			}
			if !same(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if (choice.Why != "") != (err == nil && len(got) == 0) {
				t.Errorf("%d GPUs because of %q", len(got), choice.Why)
			}
		})
	}
}

func TestSelectNone(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{None, Unmanaged} {
		if got, err := Select(policy, []string{"9"}, Inventory{Devices: []Device{gpu0}}, Build{}); got.GPUs != nil || err != nil {
			t.Errorf("%s: got %v, %v", policy, got, err)
		}
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	hidden := map[string]string{
		"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "-1", "GGML_VK_VISIBLE_DEVICES": "",
	}
	tests := map[string]struct {
		policy Policy
		gpus   []Device
		want   map[string]string
	}{
		"two":               {"", []Device{gpu1, gpu0}, map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-aa11,GPU-aa00", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}},
		"a partition":       {Optional, []Device{mig1}, map[string]string{"CUDA_VISIBLE_DEVICES": "MIG-e1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}},
		"none by policy":    {None, nil, hidden},
		"none by happening": {Optional, nil, hidden},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Env(tt.policy, tt.gpus, Build{}); !maps.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	got, err := List(t.Context(), &fakeGPUs{gpus: []Device{gpu0, lostGPU}})
	if err != nil || !same(got, []Device{gpu0, lostGPU}) {
		t.Errorf("got %v, %v", got, err)
	}

	_, err = List(t.Context(), &fakeGPUs{err: errNone})
	if want := "cannot use the GPU: no NVIDIA driver (libnvidia-ml.so.1 not found); install the driver"; errText(err) != want {
		t.Errorf("no driver:\n got %v\nwant %s", err, want)
	}
	if !errors.Is(err, ErrNoDriver) {
		t.Error("the error does not wrap ErrNoDriver")
	}

	_, err = List(t.Context(), &fakeGPUs{})
	if !errors.Is(err, ErrNone) {
		t.Errorf("no device: got %v, want ErrNone", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = List(ctx, &fakeGPUs{gpus: []Device{gpu0}}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled before: got %v", err)
	}
}

// hungGPUs is a driver that answers only when it is released.
type hungGPUs struct {
	fakeGPUs
	asked, release chan struct{}
}

func (h *hungGPUs) GPUs() ([]Device, error) {
	close(h.asked)
	<-h.release
	return nil, nil
}

func TestListHangs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	h := &hungGPUs{asked: make(chan struct{}), release: make(chan struct{})}
	defer close(h.release)
	go func() {
		<-h.asked
		cancel()
	}()
	if _, err := List(ctx, h); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func same(a, b []Device) bool {
	return slices.EqualFunc(a, b, func(a, b Device) bool { return reflect.DeepEqual(a, b) })
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
