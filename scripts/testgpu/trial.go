//go:build linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/nvml"
	"github.com/llama-orch/engine-provisioner/settings"
)

// trial is what the assumptions are tried with.
type trial struct {
	server, source, ref, vulkan, hold, cacheDir string
	inNamespace                                 bool
	args                                        []string // of this program

	dir, model string
	gpu        device        // the first GPU
	built      time.Duration // how long the build took; 0 where there was none
	launches   int
	first      *seenLaunch // what plain has made
}

// device is a GPU as NVML tells of it, which is asked without what is tried.
type device struct{ uuid, name, bus string }

// open finds the GPU, builds the server if there is none, and writes a model.
func (t *trial) open(ctx context.Context) error {
	err := t.ask(func(d nvml.Device) nvml.Return {
		var ret nvml.Return
		if t.gpu.uuid, ret = d.UUID(); ret != nvml.Success {
			return ret
		}
		t.gpu.name, _ = d.Name()
		t.gpu.bus, ret = d.BusID()
		return ret
	})
	if err != nil {
		return fmt.Errorf("there is no GPU to be tried: %w", err)
	}
	if t.hold == "" || t.server == "" && t.source == "" {
		return errors.New("-hold, and -server or -source, are needed")
	}
	if t.dir, err = os.MkdirTemp("", "testgpu-"); err != nil {
		return err
	}
	t.model = filepath.Join(t.dir, "model.gguf")
	if err := ggufgen.WriteFile(t.model, ggufgen.Params{Width: 512, Layers: 8}); err != nil {
		return errors.Join(err, os.RemoveAll(t.dir))
	}
	if t.server != "" {
		return nil
	}
	if err := t.build(ctx); err != nil {
		return errors.Join(err, os.RemoveAll(t.dir))
	}
	return nil
}

func (t *trial) close() { _ = os.RemoveAll(t.dir) }

// build has mode source build the server for the GPU that is here. Where the toolkit lacks the stub of the driver's library, it
// does what the error says.
func (t *trial) build(ctx context.Context) error {
	// The kernels for flash attention, which nothing here is about, are most of the compilers' work.
	flags := []string{"-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=native", "-DGGML_CUDA_FA=OFF"}
	err := t.buildWith(ctx, flags)
	const without = "-DGGML_CUDA_NO_VMM=ON"
	if err != nil && strings.Contains(err.Error(), without) {
		return t.buildWith(ctx, append(flags, without))
	}
	return err
}

func (t *trial) buildWith(ctx context.Context, flags []string) error {
	cfg := t.replica()
	cfg.Provisioning = settings.Provisioning{Mode: "source", Source: &settings.Source{Repo: t.source, Ref: t.ref, CMakeFlags: flags}}
	began := time.Now()
	p, err := provisioner.New(cfg, t.cache(), provisioner.WithEventFunc(func(e provisioner.Event) {
		if e.Progress == nil {
			fmt.Fprintf(os.Stderr, "testgpu: %s\n", e.Message)
		}
	}))
	if err != nil {
		return err
	}
	prepared, err := p.Prepare(ctx)
	if err != nil {
		return err
	}
	t.server, t.built = prepared.Binary.Path, time.Since(began)
	return nil
}

func (t *trial) cache() provisioner.Option {
	return provisioner.WithCacheDir(cmp.Or(t.cacheDir, filepath.Join(t.dir, "cache")))
}

// replica is one that requires a GPU, with directories of its own.
func (t *trial) replica() provisioner.ProvisionConfig {
	t.launches++
	dir := filepath.Join(t.dir, fmt.Sprint(t.launches))
	return provisioner.ProvisionConfig{
		PoolID: "gpu", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: t.dir, Engine: "llamacpp", Port: t.freePort(),
		Model: settings.Model{ID: t.model}, GPU: engine.GPURequired,
		Flags:        []string{"--ctx-size", "512"},
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: t.server}},
		Ready:        settings.Ready{Timeout: settings.Duration(time.Minute)},
	}
}

// freePort is one that nobody listens on now. It lies below the range from which the kernel takes ports for connections, and
// each call of each process begins to look elsewhere.
func (t *trial) freePort() int {
	const from, count = 21000, 11000
	for i := range count {
		port := from + (os.Getpid()*100+t.launches+i)%count
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	return 0 // which no configuration takes
}

// seenLaunch is what was seen of a launch that became ready.
type seenLaunch struct {
	handoff provisioner.Handoff
	log     string
	held    uint64 // bytes of GPU memory, by NVML
	env     string
	args    string // with spaces between them
	took    time.Duration
}

// start starts a replica, lets look see it while it is ready, and stops it. The error is why it did not become ready.
func (t *trial) start(ctx context.Context, cfg provisioner.ProvisionConfig, look ...func(*provisioner.EngineProvisioner) error) (seen seenLaunch, err error) {
	p, err := provisioner.New(cfg, t.cache())
	if err != nil {
		return seen, err
	}
	began := time.Now()
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if e := p.Stop(stopping); e != nil && !errors.Is(e, provisioner.ErrKilled) && err == nil {
			err = fmt.Errorf("cannot stop it: %w", e)
		}
	}()
	if err := p.Start(ctx); err != nil {
		return seen, err
	}
	if seen.handoff, err = p.WaitReady(ctx); err != nil {
		return seen, err
	}
	seen.took = time.Since(began)
	held, err := t.processes()
	if err != nil {
		return seen, err
	}
	pid := p.Status().PID
	seen.held = held[pid]
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return seen, err
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return seen, err
	}
	seen.env, seen.args = strings.ReplaceAll(string(env), "\x00", "\n"), strings.ReplaceAll(string(args), "\x00", " ")
	for _, f := range look {
		if err := f(p); err != nil {
			return seen, err
		}
	}
	log, err := os.ReadFile(p.Status().Log)
	seen.log = string(log)
	return seen, err
}

// plain is a launch with nothing special about it but a full log, made once.
func (t *trial) plain(ctx context.Context) (seenLaunch, error) {
	if t.first != nil {
		return *t.first, nil
	}
	cfg := t.replica()
	cfg.Flags = append(cfg.Flags, "--verbosity", "4")
	seen, err := t.start(ctx, cfg, ask(ctx))
	if err == nil {
		t.first = &seen
	}
	return seen, err
}

// The exit statuses of the command line for a replica that must not become ready.
const wrongConfig, noGPU = 2, 3

// refused starts a replica that must not become ready, for a reason with this exit status, and returns the reason.
func (t *trial) refused(ctx context.Context, cfg provisioner.ProvisionConfig, status int) (string, error) {
	began := time.Now()
	seen, err := t.start(ctx, cfg)
	var is bool
	switch {
	case err == nil:
		return "", fmt.Errorf("it became ready, with %d MiB on the GPU", seen.held>>20)
	case status == noGPU:
		is = errors.As(err, new(*provisioner.GPUError))
	default:
		is = errors.As(err, new(*provisioner.ConfigError))
	}
	if !is {
		return "", fmt.Errorf("not with exit status %d: %w", status, err)
	}
	return fmt.Sprintf("after %.1f s: %s", time.Since(began).Seconds(), err), nil
}

// blind is a script that runs a server as if the machine had no GPU; with later, it lists what is there all the same.
func (t *trial) blind(later bool) (string, error) {
	name, unless := "blind-llama-server", ""
	if later {
		name, unless = "later-"+name, `case " $* " in *" --list-devices "*) exec `+fmt.Sprintf("%q", t.server)+` "$@" ;; esac`+"\n"
	}
	path := filepath.Join(t.dir, name)
	script := fmt.Sprintf("#!/bin/sh\n%sexport CUDA_VISIBLE_DEVICES=\nexec %q \"$@\"\n", unless, t.server)
	return path, os.WriteFile(path, []byte(script), 0o700)
}

// holder is a running neighbour that holds GPU memory.
type holder struct{ cmd *exec.Cmd }

func (t *trial) holding(ctx context.Context, mib uint64) (*holder, error) {
	cmd := exec.CommandContext(ctx, t.hold, fmt.Sprint(mib))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &holder{cmd}
	if lines := bufio.NewScanner(out); !lines.Scan() {
		h.kill()
		return nil, fmt.Errorf("%s cannot hold %d MiB", t.hold, mib)
	}
	return h, nil
}

func (h *holder) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait() // "signal: killed"
}

// ask asks the driver about the first GPU.
func (t *trial) ask(question func(nvml.Device) nvml.Return) error {
	lib := nvml.Open("libnvidia-ml.so.1")
	if ret := lib.Init(); ret != nvml.Success {
		return ret
	}
	defer func() { _ = lib.Shutdown() }()
	d, ret := lib.Device(0)
	if ret == nvml.Success {
		ret = question(d)
	}
	if ret != nvml.Success {
		return ret
	}
	return nil
}

// memory is the first GPU's.
func (t *trial) memory() (m nvml.Memory, err error) {
	err = t.ask(func(d nvml.Device) (ret nvml.Return) {
		m, ret = d.Memory()
		return ret
	})
	return m, err
}

// processes are the bytes that processes hold of the first GPU.
func (t *trial) processes() (map[int]uint64, error) {
	held := map[int]uint64{}
	err := t.ask(func(d nvml.Device) nvml.Return {
		for _, list := range []func() ([]nvml.Process, nvml.Return){d.ComputeProcesses, d.GraphicsProcesses} {
			some, ret := list()
			if ret != nvml.Success {
				return ret
			}
			for _, p := range some {
				held[int(p.PID)] = max(held[int(p.PID)], p.Memory)
			}
		}
		return nvml.Success
	})
	return held, err
}
