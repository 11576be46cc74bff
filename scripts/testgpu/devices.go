//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/nvml"
)

func devicesByName(ctx context.Context, t *trial) (string, error) {
	var seen []string
	for _, name := range []string{"0", t.gpu.uuid, t.gpu.uuid[:min(len(t.gpu.uuid), 12)], ""} {
		cfg := t.replica()
		if name != "" {
			cfg.Devices = provisioner.Devices{provisioner.Device(name)}
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
		if _, err := provisioner.DetectGPUs(ctx); err != nil {
			return "", err
		}
		longest = max(longest, time.Since(began))
		began = time.Now()
		if _, err := provisioner.Plan(ctx, t.replica(), t.cache()); err != nil {
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

func vulkanOnTheCard(ctx context.Context, t *trial) (string, error) {
	if t.vulkan == "" {
		return "", unchecked("no server for Vulkan was brought along")
	}
	cfg := t.replica()
	cfg.Provisioning.Binary.Path = t.vulkan
	launch, err := t.start(ctx, cfg, ask(ctx))
	if err != nil {
		return "", err
	}
	using, buffer := usingDevice.FindString(launch.log), modelBuffer.FindAllString(launch.log, -1)
	seen := fmt.Sprintf("%q, %q, %d MiB by NVML", using, buffer, launch.held>>20)
	if !strings.Contains(strings.Join(buffer, " "), "Vulkan0 ") || launch.held == 0 {
		return seen, errors.New("it is not on the card")
	}
	return seen, nil
}

// adoptionKeepsRequired starts an engine that uses no GPU under optional, and asks whether it would do under required.
func adoptionKeepsRequired(ctx context.Context, t *trial) (string, error) {
	blind, err := t.blind()
	if err != nil {
		return "", err
	}
	cfg := t.replica()
	cfg.GPU, cfg.Provisioning.Binary.Path = provisioner.GPUOptional, blind
	var lacks error
	_, err = t.start(ctx, cfg, func(p *provisioner.EngineProvisioner) error {
		now := cfg
		now.GPU = provisioner.GPURequired
		c, err := p.Compare(ctx, now)
		if lacks = c.Lacks; lacks == nil && len(c.Differs) > 0 {
			lacks = fmt.Errorf("it differs by %q: %s", c.Differs[0].Key, c.Differs[0].Why)
		}
		if lacks == nil && err == nil {
			err = errors.New("it passes")
		}
		if lacks != nil {
			err = nil
		}
		return err
	})
	return fmt.Sprint(lacks), err
}
