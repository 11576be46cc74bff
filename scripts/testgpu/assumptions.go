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
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/settings"
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
	{7, "memory of a killed process is back in 30 s, with others there", memoryReturns},
	{8, "an engine takes no more than the estimate, by which fit decides", estimateHolds},
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
	if err != nil {
		return namespace, err
	}
	back, err := killedBeside(ctx, t)
	return fmt.Sprintf("%s: listed with %d MiB, and %s", namespace, seen.held>>20, back), err
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
	switch {
	case strings.Contains(launch.log, marker):
		return seen, errors.New("the prompt is in the log")
	case using == "" || !slices.ContainsFunc(buffer, func(line string) bool { return strings.Contains(line, "CUDA0 ") }):
		return seen, errors.New("the log lacks it")
	case !t.isOurs(using):
		return seen, fmt.Errorf("the GPU's address is %s", t.gpu.bus)
	}
	return seen, nil
}

// isOurs reports whether words of the engine's hold the address of the GPU, which NVML writes with more digits.
func (t *trial) isOurs(words string) bool {
	return strings.Contains(strings.ToLower(words), strings.TrimPrefix(strings.ToLower(t.gpu.bus), "0000"))
}

// blindIsRefused starts a server that sees no GPU, one that sees none from its load on, and one whose user has hidden it.
func blindIsRefused(ctx context.Context, t *trial) (string, error) {
	var seen []string
	for _, from := range []string{"always", "its load"} {
		blind, err := t.blind(from == "its load")
		if err != nil {
			return "", err
		}
		cfg := t.replica()
		cfg.Provisioning.Binary.Path = blind
		why, err := t.refused(ctx, cfg, noGPU)
		seen = append(seen, "blind from "+from+" on: "+why)
		if err != nil {
			return strings.Join(seen, "; "), err
		}
	}
	cfg := t.replica()
	cfg.Env = map[string]settings.EnvValue{"CUDA_VISIBLE_DEVICES": {Value: ""}}
	byUser, err := t.refused(ctx, cfg, wrongConfig)
	return strings.Join(append(seen, "by the user's env: "+byUser), "; "), err
}

func layersAreNoProof(ctx context.Context, t *trial) (string, error) {
	var seen []string
	for _, try := range []struct {
		flags  []string
		status int
	}{{[]string{"--device", "none"}, wrongConfig}, {[]string{"-ot", ".*=CPU"}, noGPU}} {
		flags := try.flags
		cfg := t.replica()
		cfg.Flags = append(cfg.Flags, flags...)
		why, err := t.refused(ctx, cfg, try.status)
		seen = append(seen, strings.Join(flags, " ")+": "+why)
		if err != nil {
			return strings.Join(seen, "; "), err
		}
	}
	return strings.Join(seen, "; "), nil
}

// noFallbackWords looks for what the engine is known to say when it has no GPU, in good starts of the builds that are here.
func noFallbackWords(ctx context.Context, t *trial) (string, error) {
	spec, err := llamacpp.Engine{}.Launch(engine.Request{}, engine.Host{})
	if err != nil {
		return "", err
	}
	launch, err := t.plain(ctx)
	if err != nil {
		return "", err
	}
	log, builds := launch.log, 1
	if t.vulkan != "" {
		drawn, err := t.onVulkan(ctx)
		if err != nil {
			return "", err
		}
		log, builds = log+drawn.log, 2
	}
	for line := range strings.Lines(log) {
		if spec.NoGPU.MatchString(line) {
			return line, errors.New("a good start says so")
		}
	}
	return fmt.Sprintf("%d lines of %d builds", strings.Count(log, "\n"), builds), nil
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
