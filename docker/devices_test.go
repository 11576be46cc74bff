package docker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/launch"
)

const (
	nvidia = engine.VendorNVIDIA
	amd    = engine.VendorAMD
	intel  = engine.VendorIntel
)

func TestDevices(t *testing.T) {
	t.Parallel()
	two := []engine.GPU{{Vendor: nvidia, Index: 1, UUID: "GPU-a"}, {Vendor: nvidia, Index: 3, UUID: "GPU-b"}}
	for _, c := range []struct {
		podman bool
		driver string
		gpus   []engine.GPU
		want   string
	}{
		{false, "", two, "nvidia [GPU-a GPU-b] [[gpu]]"},
		{false, "cdi", two, "cdi [nvidia.com/gpu=1 nvidia.com/gpu=3] []"},
		{true, "", two, "cdi [nvidia.com/gpu=1 nvidia.com/gpu=3] []"},
		{true, "nvidia", two, "nvidia [GPU-a GPU-b] [[gpu]]"},
		{true, "", []engine.GPU{{Vendor: nvidia, Index: 0, UUID: "MIG-c"}}, "cdi [nvidia.com/gpu=MIG-c] []"},
		{false, "", []engine.GPU{{Vendor: amd, Index: 1, Render: "/dev/dri/renderD129"}}, "/dev/dri/renderD129 /dev/kfd"},
		{true, "", []engine.GPU{{Vendor: intel, Render: "/dev/dri/renderD128"}}, "/dev/dri/renderD128"},
		{false, "cdi", []engine.GPU{{Vendor: amd, Index: 1, Render: "/dev/dri/renderD129"}}, "cdi [amd.com/gpu=1] []"},
		{
			false, "",
			[]engine.GPU{{Vendor: amd, Render: "/dev/dri/renderD128"}, {Vendor: amd, Render: "/dev/dri/renderD129"}, two[0]},
			"nvidia [GPU-a] [[gpu]] /dev/dri/renderD128 /dev/dri/renderD129 /dev/kfd",
		},
		{false, "nvidia", []engine.GPU{{Vendor: amd, Render: "/dev/dri/renderD128"}}, "refused"},
		{false, "", nil, ""},
	} {
		var host container.HostConfig
		err := (&runtime{podman: c.podman}).giveDevices(t.Context(), &host, c.driver, c.gpus)
		var got []string
		for _, r := range host.DeviceRequests {
			got = append(got, fmt.Sprint(r.Driver, " ", r.DeviceIDs, " ", r.Capabilities))
		}
		for _, d := range host.Devices {
			got = append(got, d.PathOnHost)
		}
		if err != nil {
			got = []string{"refused"}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%+v: %s (%v)", c, text, err)
		}
	}
}

func TestCheckDevices(t *testing.T) {
	t.Parallel()
	host := func(ids []string, paths ...string) *container.HostConfig {
		h := &container.HostConfig{}
		if ids != nil {
			h.DeviceRequests = []container.DeviceRequest{{DeviceIDs: ids}}
		}
		for _, p := range paths {
			h.Devices = append(h.Devices, container.DeviceMapping{PathOnHost: p})
		}
		return h
	}
	for _, c := range []struct {
		asked, got *container.HostConfig
		dropped    string
	}{
		{host(nil), nil, ""},
		{host([]string{"GPU-a"}), host([]string{"GPU-a"}), ""},
		{host([]string{"nvidia.com/gpu=0"}), host(nil, "/dev/nvidia0"), ""}, // resolved
		{host([]string{"amd.com/gpu=0"}), host(nil, "/dev/kfd", "/dev/dri/renderD128"), ""},
		{host([]string{"amd.com/gpu=0"}), host(nil, "/dev/nvidia0"), "amd.com/gpu=0"},
		{host([]string{"GPU-a", "GPU-b"}), host([]string{"GPU-a"}), "GPU-b"},
		{host([]string{"GPU-a"}), nil, "GPU-a"},
		{host(nil, "/dev/kfd", "/dev/dri/renderD128"), host(nil, "/dev/kfd"), "/dev/dri/renderD128"},
	} {
		err := checkDevices(c.asked, c.got)
		if (err == nil) != (c.dropped == "") || err != nil && !strings.HasSuffix(err.Error(), ": "+c.dropped) {
			t.Errorf("asked %+v, got %+v: %v", c.asked, c.got, err)
		}
	}
}

// TestCDINames reads what the vendors' tools write, with each of their ways to name a device.
func TestCDINames(t *testing.T) {
	t.Parallel()
	etc, run := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(etc, "nvidia.yaml"): `cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- {name: "0", containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}}
- {name: GPU-a, containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}}
- {name: "1:0", containerEdits: {deviceNodes: [{path: /dev/nvidia1}]}}
- {name: MIG-b, containerEdits: {deviceNodes: [{path: /dev/nvidia1}]}}
- {name: all, containerEdits: {deviceNodes: [{path: /dev/nvidia0}, {path: /dev/nvidia1}]}}
`,
		filepath.Join(run, "amd.json"): `{"cdiVersion": "0.6.0", "kind": "amd.com/gpu", "devices": [
  {"name": "all", "containerEdits": {"deviceNodes": [{"path": "/dev/kfd"}, {"path": "/dev/dri/renderD128"}, {"path": "/dev/dri/renderD129"}]}},
  {"name": "first", "containerEdits": {"deviceNodes": [{"path": "/dev/kfd"}, {"path": "/dev/dri/renderD128"}]}},
  {"name": "second", "containerEdits": {"deviceNodes": [{"path": "/dev/kfd"}, {"path": "/dev/dri/x", "hostPath": "/dev/dri/renderD129"}]}}]}`,
		filepath.Join(etc, "intel.yml"): "kind: intel.com/gpu\ndevices:\n- name: 0000-03-00-0-0x56a0\n  containerEdits: {deviceNodes: [{path: /dev/dri/card0}, {path: /dev/dri/renderD130}]}\n",
		filepath.Join(etc, "torn.yaml"): "kind: [",
		filepath.Join(etc, "README"):    "kind: nvidia.com/gpu",
	} {
		writeFile(t, path, text, 0o600)
	}
	for want, g := range map[string]engine.GPU{
		"nvidia.com/gpu=GPU-a":              {Vendor: nvidia, Index: 0, UUID: "GPU-a"},
		"nvidia.com/gpu=MIG-b":              {Vendor: nvidia, Index: 1, UUID: "MIG-b"},
		"nvidia.com/gpu=7":                  {Vendor: nvidia, Index: 7, UUID: "GPU-unknown"},
		"amd.com/gpu=first":                 {Vendor: amd, Index: 0, Render: "/dev/dri/renderD128"},
		"amd.com/gpu=second":                {Vendor: amd, Index: 1, Render: "/dev/dri/renderD129"},
		"amd.com/gpu=2":                     {Vendor: amd, Index: 2, Render: "/dev/dri/renderD131"},
		"intel.com/gpu=0000-03-00-0-0x56a0": {Vendor: intel, Render: "/dev/dri/renderD130"},
	} {
		if got := cdiName(g, []string{etc, run, filepath.Join(etc, "none")}); got != want {
			t.Errorf("%+v: %s, want %s", g, got, want)
		}
	}
}

func TestInsideEnv(t *testing.T) {
	t.Parallel()
	const void = "NVIDIA_VISIBLE_DEVICES=void"
	third := []engine.GPU{{Vendor: amd, Index: 2}}
	for _, c := range []struct {
		env, want []string
		gpus      []engine.GPU
	}{
		{[]string{"A=b"}, []string{"A=b", void}, nil},
		{[]string{"NVIDIA_VISIBLE_DEVICES=all"}, []string{"NVIDIA_VISIBLE_DEVICES=all"}, nil}, // the user's word
		{[]string{"CUDA_VISIBLE_DEVICES=GPU-a"}, []string{"CUDA_VISIBLE_DEVICES=GPU-a"}, []engine.GPU{{Vendor: nvidia}}},
		{[]string{"HIP_VISIBLE_DEVICES=2", "ROCR_VISIBLE_DEVICES=GPU-1"}, []string{"ROCR_VISIBLE_DEVICES=GPU-1", void}, third},
		{[]string{"HIP_VISIBLE_DEVICES=0"}, []string{"HIP_VISIBLE_DEVICES=0", void}, third}, // the user's word
		{[]string{"ONEAPI_DEVICE_SELECTOR=level_zero:1", "ZE_AFFINITY_MASK=1"}, []string{void}, []engine.GPU{{Vendor: intel, Index: 1}}},
		{[]string{"HIP_VISIBLE_DEVICES=-1"}, []string{"HIP_VISIBLE_DEVICES=-1", void}, nil},
	} {
		if got := insideEnv(c.env, c.gpus); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.env, got, c.want)
		}
	}
}

// TestDeviceFile gives a container the file of a device, and its group, for real.
func TestDeviceFile(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		dir, err := os.MkdirTemp("/dev", "engine-provisioner-test-") // elsewhere engine.GPUs may be forbidden
		if err != nil {
			t.Fatalf("cannot make a device: %v", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		path := filepath.Join(dir, "renderD128")
		if err := syscall.Mknod(path, syscall.S_IFCHR|0o660, 1<<8|7); err != nil { // /dev/full
			t.Fatalf("cannot make a device: %v", err)
		}
		if err := errors.Join(os.Chown(path, 0, 4242), os.Chmod(path, 0o660), os.Chmod(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
		r, err := rt.launcher.runtime(bounded(t), rt.socket)
		if err != nil {
			t.Fatal(err)
		}
		host := &container.HostConfig{NetworkMode: "none", LogConfig: r.logConfig()}
		if err := r.giveDevices(bounded(t), host, "", []engine.GPU{{Vendor: intel, Render: path}}); err != nil {
			t.Fatal(err)
		}
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		host.Mounts = mounts([]string{exe + ":/opener:ro"})
		text, code, err := r.output(bounded(t), client.ContainerCreateOptions{
			Config: &container.Config{
				Image: imageName + ":" + imageTag, Entrypoint: []string{"/opener"}, User: "1000:1000", Env: []string{openEnv + "=" + path},
			},
			HostConfig: host,
		})
		if err != nil || code != 0 || strings.TrimSpace(text) != opened {
			t.Errorf("code %d, %q (%v)", code, text, err)
		}
	})
}

// TestMissingDevice asks for a device that is not there.
func TestMissingDevice(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		ref := launch.Ref{StateDir: cfg.StateDir, StateID: cfg.StateDir, Pool: "pool", Replica: "r0", LaunchID: strconv.Itoa(os.Getpid()), Log: cfg.Dir + "/1.log"}
		found, err := rt.launcher.Reserve(launch.Target{Container: launch.Container{RuntimeSocket: rt.socket}}, ref)
		if err != nil {
			t.Fatal(err)
		}
		i := found.(*instance)
		l := launch.Launch{
			Target: launch.Target{Host: "127.0.0.1", Port: cfg.Port, Container: launch.Container{Network: "host"}}, Note: func(string) {},
			Host: engine.Host{Binary: engine.Binary{Path: imageName + ":" + imageTag}},
		}
		options, err := i.options(bounded(t), l)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.r.giveDevices(bounded(t), options.HostConfig, "", []engine.GPU{{Vendor: amd, Render: "/dev/dri/renderD255"}}); err != nil {
			t.Fatal(err)
		}
		err = i.run(bounded(t), l, options)
		if refused, ok := errors.AsType[*launch.Error](err); !ok || refused.Cause != engine.CauseDriver {
			t.Errorf("%v", err)
		}
		if err := i.undo(bounded(t)); err != nil {
			t.Error(err)
		}
		rt.nothingLeft(t, cfg)
	})
}
