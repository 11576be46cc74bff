package llamacpp

import (
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// What llama-server says of GPUs. At the log level that offloadEnv sets, builds since b11669 say all of it; older ones at
// their usual level.
var (
	offload = lazyregexp.New(`offloaded (?P<used>\d+)/(?P<total>\d+) layers to GPU`)
	buffers = lazyregexp.New(`load_tensors: +(?P<device>\S+) (?:model )?buffer size = +(?P<mib>[\d.]+) MiB`)
	devices = lazyregexp.New(`using device (?P<device>\S+) \((?P<name>.+?)\)(?: \((?P<pci>[0-9a-fA-F:.]+|unknown id)\))? - \d+ MiB free`)
	noGPU   = lazyregexp.New(`no usable GPU found`)
)

var (
	listedDevice = lazyregexp.New(`^  ([A-Za-z]\w*): (.+) \((\d+) MiB, \d+ MiB free\)$`)
	// deviceTrouble is what backends say when they find nothing to use.
	deviceTrouble = lazyregexp.New(`(?i)\b(failed|error|no \S+ ?devices?|not found|insufficient|invalid)\b`)
)

// parseDevices reads what "--list-devices" prints (common_print_available_devices in common/arg.cpp): a header, and then a
// line for each device, or "(none)". What is free was free then, and is not taken over. A device without memory, such as a
// library for matrices on the processor, is no GPU.
func parseDevices(output string) (found []engine.GPU, words string) {
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "Available devices:") {
			found = []engine.GPU{}
			continue
		}
		m := listedDevice.FindStringSubmatch(line)
		switch {
		case m == nil && deviceTrouble.MatchString(line):
			words = strings.TrimSpace(line)
		case m == nil || found == nil:
		default:
			if mib, err := strconv.ParseInt(m[3], 10, 64); err == nil && mib > 0 && mib < 1<<40 {
				found = append(found, engine.GPU{
					Index: len(found), Name: m[2], MemoryTotal: engine.Bytes(mib << 20), MemoryFree: engine.UnknownBytes, Backends: []string{m[1]},
				})
			}
		}
	}
	return found, words
}
