package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/launch"
)

// kfd is the one file through which all of AMD's GPUs compute; the render nodes choose among them.
const kfd = "/dev/kfd"

// giveDevices asks for GPUs: those of NVIDIA by its toolkit, or by CDI, by which alone Podman knows them; those of others
// by their device files, or by CDI where the configuration says so.
func (r *runtime) giveDevices(ctx context.Context, host *container.HostConfig, driver string, gpus []engine.GPU) error {
	byCDI := container.DeviceRequest{Driver: "cdi"}
	byToolkit := container.DeviceRequest{Driver: "nvidia", Capabilities: [][]string{{"gpu"}}}
	var files []string
	for _, g := range gpus {
		switch {
		case driver == "cdi" || driver == "" && g.Vendor == engine.VendorNVIDIA && r.podman:
			byCDI.DeviceIDs = append(byCDI.DeviceIDs, cdiName(g, cdiFolders))
		case g.Vendor == engine.VendorNVIDIA:
			byToolkit.DeviceIDs = append(byToolkit.DeviceIDs, g.UUID)
		case driver == "nvidia" || g.Render == "":
			return &launch.Error{
				Cause: engine.CauseDriver, Err: fmt.Errorf("cannot give the GPU %q to a container by \"gpu_driver: %s\"", g.ID(), driver),
				Advice: `leave "gpu_driver" out for the device files of AMD and Intel, or write "cdi"`,
			}
		case g.Vendor == engine.VendorAMD:
			files = append(files, kfd, g.Render)
		default:
			files = append(files, g.Render)
		}
	}
	for _, request := range []container.DeviceRequest{byToolkit, byCDI} {
		if len(request.DeviceIDs) > 0 {
			host.DeviceRequests = append(host.DeviceRequests, request)
		}
	}
	slices.Sort(files)
	for _, path := range slices.Compact(files) {
		host.Devices = append(host.Devices, container.DeviceMapping{PathOnHost: path, PathInContainer: path, CgroupPermissions: "rwm"})
		if gid, known := groupOf(path); known {
			host.GroupAdd = append(host.GroupAdd, strconv.FormatUint(uint64(gid), 10))
		}
	}
	slices.Sort(host.GroupAdd)
	host.GroupAdd = slices.Compact(host.GroupAdd)
	if len(host.GroupAdd) > 0 && r.podman && r.rootless(ctx) {
		host.GroupAdd = []string{"keep-groups"} // numbers of the host mean others in a user's namespace
	}
	return nil
}

// groupOf is the group that may use a device, by number: the image may not know its name. What this process cannot see,
// the runtime still may, and what that cannot see it refuses.
func groupOf(path string) (gid uint32, known bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Gid == 0 { // root's, which adds nothing
		return 0, false
	}
	return st.Gid, true
}

// rootless reports whether the runtime is a user's own.
func (r *runtime) rootless(ctx context.Context) bool {
	ctx, cancel := r.bound(ctx)
	defer cancel()
	found, err := r.api.Info(ctx, client.InfoOptions{})
	return err == nil && slices.ContainsFunc(found.Info.SecurityOptions, func(o string) bool { return strings.Contains(o, "rootless") })
}

// countedEnv are variables that choose among GPUs by their place among all of this host, which in a container are those that
// were chosen.
var countedEnv = []string{"HIP_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK"}

// insideEnv is the environment of an engine whose container has the chosen GPUs alone.
func insideEnv(env []string, gpus []engine.GPU) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, value, _ := strings.Cut(entry, "=")
		if !slices.Contains(countedEnv, name) {
			return false
		}
		return slices.ContainsFunc([]engine.Vendor{engine.VendorAMD, engine.VendorIntel}, func(vendor engine.Vendor) bool {
			var places []string
			for _, g := range gpus {
				if g.Vendor == vendor {
					places = append(places, strconv.Itoa(g.Index))
				}
			}
			return len(places) > 0 && strings.TrimPrefix(value, "level_zero:") == strings.Join(places, ",")
		})
	})
	ofNVIDIA := slices.ContainsFunc(gpus, func(g engine.GPU) bool { return g.Vendor == engine.VendorNVIDIA })
	said := slices.ContainsFunc(env, func(entry string) bool { return strings.HasPrefix(entry, "NVIDIA_VISIBLE_DEVICES=") })
	if !ofNVIDIA && !said {
		env = append(env, "NVIDIA_VISIBLE_DEVICES=void") // images of CUDA say "all", and a default runtime obeys
	}
	return env
}

// checkDevices refuses a container that would run without its GPUs: Podman before 5.4 accepts the request for them and
// drops it (containers/podman #22645, #28436).
func checkDevices(asked, got *container.HostConfig) error {
	if got == nil {
		got = &container.HostConfig{}
	}
	has := func(prefixes ...string) bool { // a CDI device that was resolved
		return slices.ContainsFunc(got.Devices, func(d container.DeviceMapping) bool {
			return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(d.PathOnHost, p) })
		})
	}
	var dropped []string
	for _, request := range asked.DeviceRequests {
		for _, id := range request.DeviceIDs {
			kept := slices.ContainsFunc(got.DeviceRequests, func(r container.DeviceRequest) bool { return slices.Contains(r.DeviceIDs, id) })
			switch vendor, _, cdi := strings.Cut(id, ".com/gpu="); {
			case kept:
			case cdi && vendor != string(engine.VendorNVIDIA) && has("/dev/dri/", kfd):
			case (!cdi || vendor == string(engine.VendorNVIDIA)) && has("/dev/nvidia"):
			default:
				dropped = append(dropped, id)
			}
		}
	}
	for _, d := range asked.Devices {
		if !has(d.PathOnHost) {
			dropped = append(dropped, d.PathOnHost)
		}
	}
	if len(dropped) == 0 {
		return nil
	}
	return &launch.Error{
		Cause: engine.CauseDriver,
		Err: errors.New("the container runtime has accepted the request for GPUs and dropped it, so that the engine would run on the CPU: " +
			strings.Join(dropped, ", ")),
		Advice: `use Podman 5.4 or newer with "gpu_driver: cdi", or Docker with the NVIDIA Container Toolkit`,
	}
}
