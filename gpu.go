package provisioner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/nvidia"
)

// Sentinel errors that a [GPUError] wraps.
var (
	// ErrNoDriver is the cause where the node has no working NVIDIA driver, or this build cannot talk to it.
	ErrNoDriver = nvidia.ErrNoDriver
	// ErrNoGPU is the cause where the driver works but there is no GPU that could be used.
	ErrNoGPU = errors.New("no usable GPU")
)

const (
	// otherPolicies is the way out that errors of a required GPU name.
	otherPolicies = `set "gpu: optional" or "gpu: none"`
	seeDevices    = `check that the driver sees it by "nvidia-smi -L"`
)

// isPartition tells whether the device is a MIG partition.
func isPartition(g GPU) bool { return strings.HasPrefix(g.UUID, "MIG-") }

// gpuLabel is a device for people.
func gpuLabel(g GPU) string {
	if g.UUID == "" {
		return strconv.Itoa(g.Index)
	}
	return fmt.Sprintf("%d (%s)", g.Index, g.UUID)
}

// gpuDriver is what the provisioner asks of the GPU's driver; a test puts its own in place.
type gpuDriver interface {
	// GPUs lists the devices in PCI bus order, MIG partitions among them.
	GPUs() ([]GPU, error)
	// ProcessMemory is the GPU memory in bytes that each process holds over all devices. Inside a container the pids
	// may be the host's. It may hold something beside an error.
	ProcessMemory() (map[int]uint64, error)
}

// nvidiaGPUs is the gpuDriver of the node's own driver.
type nvidiaGPUs struct{ *nvidia.Driver }

func newGPUDriver() gpuDriver { return nvidiaGPUs{nvidia.New()} }

func (n nvidiaGPUs) GPUs() ([]GPU, error) {
	devices, err := n.Devices()
	gpus := make([]GPU, len(devices))
	for i, d := range devices {
		gpus[i] = GPU(d)
	}
	return gpus, err
}

// DetectGPUs lists the node's NVIDIA GPUs in PCI bus order, each followed by its MIG partitions. A GPU in a bad state
// is listed with its Problem. A node without a driver or a device is a *GPUError that wraps [ErrNoDriver] or [ErrNoGPU].
//
// A driver that hangs cannot be interrupted: when ctx ends first, its error comes back and the question is left behind.
func DetectGPUs(ctx context.Context) ([]GPU, error) { return detectGPUs(ctx, newGPUDriver()) }

func detectGPUs(ctx context.Context, d gpuDriver) ([]GPU, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cannot list the GPUs: %w", err)
	}
	gpus, err := askDriver(ctx, d.GPUs)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil, fmt.Errorf("cannot list the GPUs: %w", err)
	}
	if err != nil {
		return nil, driverError(err, "")
	}
	if len(gpus) == 0 {
		return nil, &GPUError{Err: noDevice(), Advice: seeDevices}
	}
	return gpus, nil
}

// askDriver waits for ask until ctx is done. A driver that hangs, as after a GPU has fallen off the bus, cannot be
// interrupted: then the question is left behind.
func askDriver[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	var answer T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err = ask()
	}()
	select {
	case <-done:
		return answer, err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("the driver does not answer: %w", context.Cause(ctx))
	}
}

// selectGPUs are the devices that a replica gets; none means that it runs on the CPU.
func selectGPUs(cfg ProvisionConfig, d gpuDriver) ([]GPU, error) {
	if cfg.GPU == GPUNone {
		return nil, nil // the driver is not even opened: that can take seconds on a node without persistence mode
	}
	optional := cfg.GPU == GPUOptional
	all, err := d.GPUs()
	switch {
	case err != nil && optional:
		return nil, nil
	case err != nil:
		return nil, driverError(err, otherPolicies)
	case len(all) == 0 && optional:
		return nil, nil
	case len(all) == 0:
		return nil, &GPUError{Err: noDevice(), Advice: seeDevices + ", or " + otherPolicies}
	}
	if len(cfg.Devices) > 0 && !cfg.Devices.auto() {
		return namedGPUs(cfg.Devices, all, optional)
	}
	return usableGPUs(all, optional)
}

// usableGPUs are all whole GPUs that work. Only where there is none, it is the first partition alone: CUDA gives a
// process one MIG partition, and no whole GPU beside it (MIG User Guide, "Device Enumeration").
func usableGPUs(all []GPU, optional bool) ([]GPU, error) {
	var whole, partitions []GPU
	var problems []string
	for _, g := range all {
		switch {
		case g.Problem != "":
			problems = append(problems, fmt.Sprintf("GPU %s: %s", gpuLabel(g), g.Problem))
		case isPartition(g):
			partitions = append(partitions, g)
		default:
			whole = append(whole, g)
		}
	}
	switch {
	case len(whole) > 0:
		return whole, nil
	case len(partitions) > 0:
		return partitions[:1], nil
	case optional:
		return nil, nil
	}
	return nil, &GPUError{
		Err:    fmt.Errorf("%w: %s", ErrNoGPU, strings.Join(problems, "; ")),
		Advice: "repair it, or " + otherPolicies,
	}
}

// namedGPUs are the devices that the configuration names, in its order. What is ambiguous or contradicts itself is an
// error under every policy: it is wrong wherever it runs.
func namedGPUs(names []Device, all []GPU, optional bool) ([]GPU, error) {
	var chosen []GPU
	namedBy := map[string]Device{}
	for _, name := range names {
		matches := matchGPU(string(name), all)
		if len(matches) > 1 {
			return nil, &GPUError{
				Device: string(name),
				Err:    fmt.Errorf("it names more than one: %s", labels(matches)),
				Advice: "write more of the UUID",
			}
		}
		if len(matches) == 0 || matches[0].Problem != "" {
			if optional {
				continue
			}
			if len(matches) == 0 {
				return nil, &GPUError{
					Device: string(name),
					Err:    errors.New("there is no such GPU"),
					Advice: "there are: " + labels(all),
				}
			}
			return nil, &GPUError{
				Device: string(name),
				Err:    errors.New(matches[0].Problem),
				Advice: `or name another under "devices", or ` + otherPolicies,
			}
		}
		g := matches[0]
		if first, ok := namedBy[g.UUID]; ok {
			return nil, &GPUError{
				Device: string(name),
				Err:    fmt.Errorf("it is the same device as %q", string(first)),
				Advice: `leave one of the two out of "devices"`,
			}
		}
		namedBy[g.UUID] = name
		chosen = append(chosen, g)
	}
	if len(chosen) > 1 {
		for _, g := range chosen {
			if isPartition(g) {
				return nil, &GPUError{
					Device: string(namedBy[g.UUID]),
					Err:    errors.New("CUDA gives a process one MIG partition and nothing beside it"),
					Advice: `name this one alone under "devices", or leave it out`,
				}
			}
		}
	}
	return chosen, nil
}

// matchGPU finds what an index, a UUID or the beginning of one (as CUDA allows) names. An index names a whole GPU.
func matchGPU(name string, all []GPU) []GPU {
	index, err := strconv.Atoi(name)
	isIndex := err == nil
	isUUID := strings.HasPrefix(name, "GPU-") || strings.HasPrefix(name, "MIG-")
	var matches []GPU
	for _, g := range all {
		if g.UUID == name && isUUID {
			return []GPU{g}
		}
		if isIndex && g.Index == index && !isPartition(g) || isUUID && strings.HasPrefix(g.UUID, name) {
			matches = append(matches, g)
		}
	}
	return matches
}

// gpuEnv confines an engine to its GPUs, or hides all of them from it.
func gpuEnv(cfg ProvisionConfig, gpus []GPU) map[string]string {
	if cfg.GPU == GPUNone || len(gpus) == 0 {
		return map[string]string{
			// Each runtime has its own word for "none". CUDA: "If the variable is set to an empty string, no GPU devices
			// are visible" (Programming Guide §5.2.1.1). ROCr: set and empty filters all. HIP takes an empty value for
			// unset, and ends the list at an invalid index (clr, rocclr/device/rocm/rocdevice.cpp, Device::init).
			// ggml-vulkan makes no device of an empty list, and throws on an invalid index.
			"CUDA_VISIBLE_DEVICES":    "",
			"ROCR_VISIBLE_DEVICES":    "",
			"HIP_VISIBLE_DEVICES":     "-1",
			"GGML_VK_VISIBLE_DEVICES": "",
		}
	}
	uuids := make([]string, len(gpus))
	for i, g := range gpus {
		uuids[i] = g.UUID
	}
	return map[string]string{
		// By UUID, because an index means another GPU after one is lost.
		"CUDA_VISIBLE_DEVICES": strings.Join(uuids, ","),
		"CUDA_DEVICE_ORDER":    "PCI_BUS_ID",
	}
}

// driverError says that the driver cannot be asked at all.
func driverError(err error, wayOut string) *GPUError {
	out := &GPUError{Err: err, Advice: wayOut}
	if e, ok := errors.AsType[*nvidia.Error](err); ok && e.Advice != "" {
		out.Advice = e.Advice
		if wayOut != "" {
			out.Advice += ", or " + wayOut
		}
	}
	return out
}

func noDevice() error { return fmt.Errorf("%w: the driver works but lists no device", ErrNoGPU) }

func labels(gpus []GPU) string {
	out := make([]string, len(gpus))
	for i, g := range gpus {
		out[i] = gpuLabel(g)
	}
	return strings.Join(out, ", ")
}
