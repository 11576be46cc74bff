//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/nvml"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/settings"
)

func devicesByName(ctx context.Context, t *trial) (string, error) {
	var seen []string
	for _, name := range []string{"0", t.gpu.uuid, t.gpu.uuid[:min(len(t.gpu.uuid), 12)], ""} {
		cfg := t.replica()
		if name != "" {
			cfg.Devices = settings.Devices{settings.Device(name)}
		}
		launch, err := t.start(ctx, cfg)
		if err != nil {
			return strings.Join(seen, "; "), fmt.Errorf("%q: %w", name, err)
		}
		want := "CUDA_VISIBLE_DEVICES=" + t.gpu.uuid
		if !strings.Contains("\n"+launch.env, "\n"+want) {
			return strings.Join(seen, "; "), fmt.Errorf("%q: the engine's environment lacks %s", name, want)
		}
		seen = append(seen, fmt.Sprintf("%q: %s, %d MiB", name, want, launch.held>>20))
	}
	return strings.Join(seen, "; "), nil
}

func driverIsQuick(ctx context.Context, t *trial) (string, error) {
	var longest, plans time.Duration
	for range 5 {
		began := time.Now()
		if _, err := node.GPUs(ctx); err != nil {
			return "", err
		}
		longest = max(longest, time.Since(began))
		began = time.Now()
		if _, err := node.Plan(ctx, t.replica(), t.cache()); err != nil {
			return "", err
		}
		plans = max(plans, time.Since(began))
	}
	seen := fmt.Sprintf("of five, the longest took %s, and a plan %s", longest.Round(time.Millisecond), plans.Round(time.Millisecond))
	if longest > 2*time.Second {
		return seen, errors.New("that is more than 2 s")
	}
	return seen, nil
}

func sourceBuilds(_ context.Context, t *trial) (string, error) {
	if t.built == 0 {
		return "", unchecked("the server was brought along")
	}
	return fmt.Sprintf("%s at %s for %s in %s", t.source, t.ref, t.gpu.name, t.built.Round(time.Second)), nil
}

// symbolsExist calls what internal/nvml can call. A function that is not there is told, and ends nothing.
func symbolsExist(_ context.Context, t *trial) (string, error) {
	var missing []string
	note := func(name string, ret nvml.Return) {
		if ret == nvml.FunctionNotFound {
			missing = append(missing, name)
		}
	}
	err := t.ask(func(d nvml.Device) nvml.Return {
		_, ret := d.Name()
		note("name", ret)
		_, ret = d.ComputeMode()
		note("compute mode", ret)
		_, ret = d.RemappedRows()
		note("remapped rows", ret)
		_, ret = d.RetiredPagesPending()
		note("retired pages", ret)
		_, ret = d.MIG()
		note("MIG", ret)
		_, ret = d.PartitionSlots()
		note("partitions", ret)
		_, ret = d.ComputeProcesses()
		note("processes that compute", ret)
		_, ret = d.GraphicsProcesses()
		note("processes that draw", ret)
		_, ret = d.MPSProcesses()
		note("processes under MPS", ret)
		return nvml.Success
	})
	if err != nil {
		return "", err
	}
	lib := nvml.Open("libnvidia-ml.so.1")
	if ret := lib.Init(); ret != nvml.Success {
		return "", ret
	}
	defer func() { _ = lib.Shutdown() }()
	version, ret := lib.DriverVersion()
	note("version", ret)
	if len(missing) > 0 {
		return "driver " + version, fmt.Errorf("it lacks %s", strings.Join(missing, ", "))
	}
	return "driver " + version, nil
}

func olderBuild(ctx context.Context, t *trial) (string, error) {
	launch, err := t.start(ctx, t.replica()) // with the log that a user gets
	if err != nil {
		return "", err
	}
	var build int
	if _, err := fmt.Sscanf(launch.handoff.EngineVersion, "b%d", &build); err != nil {
		return "", unchecked("the build of %q is not known", launch.handoff.EngineVersion)
	}
	if build >= 11669 {
		return "", unchecked("the server is b%d", build)
	}
	return fmt.Sprintf("b%d is ready with %d MiB", build, launch.held>>20), nil
}

// onVulkan is a launch of the server for Vulkan with a full log.
func (t *trial) onVulkan(ctx context.Context) (seenLaunch, error) {
	cfg := t.replica()
	cfg.Provisioning.Binary.Path = t.vulkan
	cfg.Flags = append(cfg.Flags, "--verbosity", "4")
	return t.start(ctx, cfg, ask(ctx))
}

func vulkanOnTheCard(ctx context.Context, t *trial) (string, error) {
	if t.vulkan == "" {
		return "", unchecked("no server for Vulkan was brought along")
	}
	launch, err := t.onVulkan(ctx)
	if err != nil {
		return "", err
	}
	using, buffer := usingDevice.FindString(launch.log), modelBuffer.FindAllString(launch.log, -1)
	seen := fmt.Sprintf("%q, %q, %d MiB by NVML", using, buffer, launch.held>>20)
	switch {
	case !strings.Contains(launch.args, "--device Vulkan"):
		return seen, fmt.Errorf("it is not confined by --device: %s", launch.args)
	case !strings.Contains(strings.Join(buffer, " "), "Vulkan0 ") || launch.held == 0:
		return seen, errors.New("it is not on the card")
	case !t.isOurs(using):
		return seen, fmt.Errorf("the GPU's address is %s", t.gpu.bus)
	}
	return seen, nil
}

// adoptionKeepsRequired hands an engine that uses no GPU, under optional, over to a manager that requires one.
func adoptionKeepsRequired(ctx context.Context, t *trial) (string, error) {
	blind, err := t.blind(false)
	if err != nil {
		return "", err
	}
	cfg := t.replica()
	cfg.GPU, cfg.Provisioning.Binary.Path = engine.GPUOptional, blind
	o := fleet.Options{Launch: []provisioner.Option{t.cache()}}
	first, err := fleet.Open(ctx, o, cfg)
	if err != nil {
		return "", err
	}
	if err := first.WaitReady(ctx); err != nil {
		return "", errors.Join(err, first.KillAll(ctx))
	}
	was := first.Status()[0].PID
	if err := first.Release(); err != nil {
		return "", err
	}
	cfg.GPU = engine.GPURequired
	second, err := fleet.Open(ctx, o, cfg)
	if err != nil {
		return "", err
	}
	lacks, now := second.WaitReady(ctx), second.Status()[0].PID
	if err := second.KillAll(ctx); err != nil && !errors.Is(err, provisioner.ErrKilled) {
		return "", err
	}
	switch {
	case lacks == nil:
		return "", errors.New("it passes")
	case !errors.As(lacks, new(*provisioner.GPUError)):
		return "", lacks
	case now != was:
		return lacks.Error(), fmt.Errorf("it does not serve on: pid %d, was %d", now, was)
	}
	return lacks.Error(), nil
}
