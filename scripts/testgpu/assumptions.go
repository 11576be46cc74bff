//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
)

// assumption is something that the code takes for granted.
type assumption struct {
	number int
	says   string
	check  func(context.Context, *trial) (seen string, err error)
}

var assumptions = []assumption{
	{1, "NVML names a process by the id that it has here", listsOurPIDs},
	{2, "the engine's log tells of devices and bytes, and holds no prompt", logTells},
	{3, "an engine that finds no GPU is refused", blindIsRefused},
	{4, "layers alone are no proof", layersAreNoProof},
	{5, "a good start has no words of a fallback", noFallbackWords},
	{6, "a neighbour that frees memory makes no failed start", neighbourFrees},
	{7, "memory of a killed process is back in 30 s", memoryReturns},
	{8, "an engine takes no more than the estimate", estimateHolds},
	{9, "a full GPU is told as oom_gpu", fullGPU},
	{10, "devices by index, UUID, its beginning, or none", devicesByName},
	{11, "asking the driver is cheap", driverIsQuick},
	{12, "mode source builds for the GPU that is here", sourceBuilds},
	{13, "the driver's library has all functions", symbolsExist},
	{14, "a build before b11669 is proven too", olderBuild},
	{15, "Vulkan on the card is proven by its name", vulkanOnTheCard},
	{16, "an engine on the CPU does not pass for required later", adoptionKeepsRequired},
}

const marker = "testgpu-marker-in-a-prompt"

// ask puts a question to a ready engine, with words that must not be in its log.
func ask(ctx context.Context) func(*provisioner.EngineProvisioner) error {
	return func(p *provisioner.EngineProvisioner) error {
		body, err := json.Marshal(map[string]any{"prompt": marker, "n_predict": 8})
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Status().URL+"/completion", strings.NewReader(string(body)))
		if err != nil {
			return err
		}
		client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
}

func listsOurPIDs(ctx context.Context, t *trial) (string, error) {
	h, err := t.holding(ctx, 1024)
	if err != nil {
		return "", err
	}
	defer h.kill()
	held, err := t.processes()
	if err != nil {
		return "", err
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("%s: pid %d holds %d MiB", namespace, h.cmd.Process.Pid, held[h.cmd.Process.Pid]>>20)
	if held[h.cmd.Process.Pid] < 1024<<20 {
		return seen, fmt.Errorf("listed are %v", held)
	}
	self, err := os.Executable()
	if err != nil {
		return seen, err
	}
	args := append([]string{"--pid", "--fork", "--kill-child", "--mount-proc", self}, t.args...)
	args = append(args, "-server", t.server, "-in-namespace")
	out, err := exec.CommandContext(ctx, "unshare", args...).CombinedOutput()
	seen += "; in a namespace of its own: " + string(out)
	if err != nil && !strings.Contains(string(out), "pid:[") {
		return seen, unchecked("no namespace can be made: %v %s", err, out)
	}
	return seen, err
}

// inThisNamespace starts a replica where the driver may tell of other process ids.
func inThisNamespace(ctx context.Context, t *trial) (string, error) {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", err
	}
	seen, err := t.start(ctx, t.replica())
	return fmt.Sprintf("%s: listed with %d MiB", namespace, seen.held>>20), err
}

var (
	usingDevice = regexp.MustCompile(`using device (\S+) .*\(([0-9a-fA-F:.]+|unknown id)\)`)
	modelBuffer = regexp.MustCompile(`(\S+) model buffer size = +([\d.]+) MiB`)
)

func logTells(ctx context.Context, t *trial) (string, error) {
	launch, err := t.plain(ctx)
	if err != nil {
		return "", err
	}
	using, buffer := usingDevice.FindString(launch.log), modelBuffer.FindAllString(launch.log, -1)
	seen := fmt.Sprintf("%s (%s): %q, %q, %d MiB by NVML", launch.handoff.EngineVersion, launch.took.Round(time.Millisecond), using, buffer, launch.held>>20)
	switch address := strings.TrimPrefix(strings.ToLower(t.gpu.bus), "0000"); {
	case strings.Contains(launch.log, marker):
		return seen, errors.New("the prompt is in the log")
	case using == "" || !slices.ContainsFunc(buffer, func(line string) bool { return strings.Contains(line, "CUDA0 ") }):
		return seen, errors.New("the log lacks it")
	case !strings.Contains(strings.ToLower(using), address):
		return seen, fmt.Errorf("the GPU's address is %s", t.gpu.bus)
	}
	return seen, nil
}

func blindIsRefused(ctx context.Context, t *trial) (string, error) {
	blind, err := t.blind()
	if err != nil {
		return "", err
	}
	cfg := t.replica()
	cfg.Provisioning.Binary.Path = blind
	why, err := t.refused(ctx, cfg)
	if err != nil {
		return why, err
	}
	cfg = t.replica()
	cfg.Env = map[string]provisioner.EnvValue{"CUDA_VISIBLE_DEVICES": {Value: ""}}
	byUser, err := t.refused(ctx, cfg)
	return why + "; by the user's env: " + byUser, err
}

func layersAreNoProof(ctx context.Context, t *trial) (string, error) {
	var seen []string
	for _, flags := range [][]string{{"--device", "none"}, {"-ot", ".*=CPU"}} {
		cfg := t.replica()
		cfg.Flags = append(cfg.Flags, flags...)
		why, err := t.refused(ctx, cfg)
		seen = append(seen, strings.Join(flags, " ")+": "+why)
		if err != nil {
			return strings.Join(seen, "; "), err
		}
	}
	return strings.Join(seen, "; "), nil
}

func noFallbackWords(ctx context.Context, t *trial) (string, error) {
	launch, err := t.plain(ctx)
	if err != nil {
		return "", err
	}
	if word := regexp.MustCompile(`(?im)^.*(no usable GPU|no GPU found|failed to initialize CUDA).*$`).FindString(launch.log); word != "" {
		return word, errors.New("a good start says so")
	}
	return fmt.Sprintf("%d lines", strings.Count(launch.log, "\n")), nil
}

func neighbourFrees(ctx context.Context, t *trial) (string, error) {
	memory, err := t.memory()
	if err != nil {
		return "", err
	}
	mib := min(20<<10, memory.Free>>21)
	h, err := t.holding(ctx, mib)
	if err != nil {
		return "", err
	}
	freed := make(chan struct{})
	go func() {
		defer close(freed)
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond): // while it loads
		}
		h.kill()
	}()
	cfg := t.replica()
	cfg.Flags = append(cfg.Flags, "--verbosity", "3") // it says nothing of bytes then
	launch, err := t.start(ctx, cfg)
	<-freed
	return fmt.Sprintf("%d MiB were freed, the engine holds %d MiB", mib, launch.held>>20), err
}

func memoryReturns(ctx context.Context, t *trial) (string, error) {
	before, err := t.memory()
	if err != nil {
		return "", err
	}
	mib := before.Free >> 20 * 7 / 10
	h, err := t.holding(ctx, mib)
	if err != nil {
		return "", err
	}
	began := time.Now()
	h.kill()
	for {
		now, err := t.memory()
		if err != nil {
			return "", err
		}
		if after := time.Since(began); now.Free+now.Total/20 >= before.Free {
			return fmt.Sprintf("%d MiB after %s", mib, after.Round(time.Millisecond)), nil
		} else if after > 30*time.Second {
			return "", fmt.Errorf("%d MiB of %d MiB are free after %s", now.Free>>20, before.Free>>20, after.Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func estimateHolds(ctx context.Context, t *trial) (string, error) {
	var seen []string
	var broken error
	for _, flags := range []string{"-c 512", "-c 2048", "-c 2048 -ctk q8_0", "-c 2048 -ub 128", "-c 2048 -ub 1024 -b 1024"} {
		cfg := t.replica()
		cfg.Flags = strings.Fields(flags)
		plan, err := provisioner.Plan(ctx, cfg, t.cache())
		if err != nil {
			return "", err
		}
		launch, err := t.start(ctx, cfg, ask(ctx))
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(plan.Memory, func(m provisioner.MemoryNeed) bool { return m.GPU == t.gpu.uuid })
		if i < 0 {
			return "", fmt.Errorf("%s: nothing is estimated", flags)
		}
		seen = append(seen, fmt.Sprintf("%s: %d MiB, estimated %d", flags, launch.held>>20, plan.Memory[i].Need>>20))
		if launch.held > plan.Memory[i].Need {
			broken = errors.New("it takes more")
		}
	}
	return strings.Join(seen, "; "), broken
}

func fullGPU(ctx context.Context, t *trial) (string, error) {
	memory, err := t.memory()
	if err != nil {
		return "", err
	}
	const left, tokens = 4096, "1000000" // MiB, and what takes 16 GiB of this model
	h, err := t.holding(ctx, memory.Free>>20-left)
	if err != nil {
		return "", err
	}
	defer h.kill()
	cfg := t.replica()
	cfg.Fit = "off" // which would tell before the start
	cfg.Flags = []string{"--ctx-size", tokens, "--n-gpu-layers", "999"}
	_, err = t.start(ctx, cfg)
	var exit *provisioner.ExitError
	var notReady *provisioner.NotReadyError
	switch {
	case err == nil:
		return "", errors.New("it became ready")
	case errors.As(err, &exit) && exit.Cause == engine.CauseOOMGPU, errors.As(err, &notReady) && notReady.Cause == engine.CauseOOMGPU:
		return err.Error(), nil
	}
	return "", fmt.Errorf("it is told as %w", err)
}
