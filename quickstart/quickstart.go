// Package quickstart makes the configuration of one model from what people type for it and from what this host has. It
// owns what a person would decide without knowing the configuration: which engine serves the model, the port, whether a
// GPU is required, and where the engine comes from. Commands and programs for newcomers call it, to run a model without
// a file, or to write the first one. It starts nothing, downloads nothing and writes no file.
package quickstart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/nearest"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Request is what somebody asks for. Its zero value lacks the model, without which there is nothing to serve.
type Request struct {
	// Model is the model as people type it: the path of a GGUF file or of a folder with weights, "hf:owner/repo…",
	// "owner/repo" and "owner/repo:QUANT" of the Hugging Face hub, the address of such a page, or the URL of a file.
	Model string
	// SHA256 is the checksum that a file from a URL needs.
	SHA256 string
	// Engine is the engine's name. "" means the one that serves this kind of model.
	Engine string
	// Port is the port to listen on; 0 means the engine's own.
	Port int
	// NextPort takes the next free port where the engine's own is taken now. It is for a configuration that is kept: where one is
	// made for each run, the next run would not find the engine of the last.
	NextPort bool
	// GPU is the policy; "" means what the host has: required where there is a GPU, none where there is not.
	GPU engine.GPUPolicy
	// Flags are the engine's own.
	Flags []string
	// Dir is the folder that the configuration's relative paths refer to. "" means the working directory.
	Dir string
	// Obtain has the executable brought where it is not in PATH, if it is known how. Otherwise the start finds out.
	Obtain bool
}

// SampleModel is a small chat model for who has none yet: 0.8 GB, from llama.cpp's own instructions.
const SampleModel = "hf:ggml-org/gemma-3-1b-it-GGUF"

// Draft is a configuration in the making. It is plain data.
type Draft struct {
	Pool provisioner.Pool
	// Notes say what was decided by the host, one line each, for people.
	Notes []string

	dir     string
	reasons map[string]string // of what was decided, by key
}

// EngineError says that several engines could serve a model, and nobody has said which.
type EngineError struct {
	Model   string
	Engines []string // their names
}

func (e *EngineError) Error() string {
	return fmt.Sprintf("cannot tell which engine shall serve %q; name one: %s", e.Model, strings.Join(e.Engines, ", "))
}

// Make makes the configuration of a model. It looks at the model's path, at the executables in PATH and at the GPUs, and
// asks no other machine. ctx bounds the questions to the GPU driver and to executables, which have limits of their own,
// too. The error is a *[ModelError], an *[EngineError] or one of an unknown engine, a *[provisioner.ConfigError] with the problems of the rest,
// or ctx's cause. Of opts, those matter that add an engine or set the cache.
func Make(ctx context.Context, req Request, opts ...provisioner.Option) (*Draft, error) {
	m, err := readModel(req.Model)
	if err != nil {
		return nil, err
	}
	host := host{engines: node.Engines(ctx, opts...), taken: isTaken}
	if req.GPU == "" {
		host.lookForGPUs(ctx)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	draft, err := host.draft(req, m, opts)
	if err != nil {
		return nil, err
	}
	if err := draft.Replica().Validate(opts...); err != nil {
		return nil, err
	}
	return draft, nil
}

// Replica is the one replica of the draft, with the state directory ".runtime" of the working directory.
func (d *Draft) Replica() provisioner.ProvisionConfig {
	config := provisioner.Config{Pools: []provisioner.Pool{d.Pool}}
	all, _ := config.Replicas("") // the error is for a pool that does not exist
	all[0].Dir = d.dir
	return all[0]
}

// host is what this machine has.
type host struct {
	engines []node.Engine
	gpus    []engine.GPU
	noGPU   error // why there are none
	taken   func(port int) bool
}

// driverTimeout is more than a driver without persistence mode needs to wake all GPUs of a large node.
const driverTimeout = 30 * time.Second

func (h *host) lookForGPUs(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, driverTimeout)
	defer cancel()
	h.gpus, h.noGPU = node.GPUs(ctx)
}

// draft decides what the request leaves open.
func (h *host) draft(req Request, m model, opts []provisioner.Option) (*Draft, error) {
	d := &Draft{dir: req.Dir, reasons: map[string]string{}}
	chosen, why, err := h.engine(req, m)
	if err != nil {
		return nil, err
	}
	d.Pool.ID = m.pool()
	d.Pool.Engine = chosen.Name
	d.decided("engine", chosen.Name, why)
	d.Pool.Model = settings.Model{ID: m.in(req.Dir), SHA256: req.SHA256}
	d.Pool.Port = cmp.Or(req.Port, chosen.Port)
	if req.Port == 0 && req.NextPort {
		d.Pool.Port, why = h.nextPort(chosen.Port)
		d.decided("port", strconv.Itoa(d.Pool.Port), why)
	}
	d.Pool.Flags = req.Flags
	d.Pool.GPU = req.GPU
	if req.GPU == "" {
		d.Pool.GPU, why = h.gpu()
		if d.Pool.GPU == engine.GPUNone && d.wantsGPU(opts) {
			d.Pool.GPU, why = engine.GPUOptional, why+"; the CPU serves what the flags want on one"
		}
		d.decided("gpu", string(d.Pool.GPU), why)
	}
	if p, ok := d.Pool.ProvisionConfig.SuggestedProvisioning(opts...); ok && req.Obtain && chosen.Binary == "" {
		d.Pool.Provisioning = p
		d.decided("provisioning", brought(p), fmt.Sprintf("there is no %s in PATH", chosen.Command))
	}
	return d, nil
}

// wantsGPU reports whether the flags are for a GPU and nothing else is wrong with the draft: command lines are carried from
// machine to machine, and the engine itself would go on without one.
func (d *Draft) wantsGPU(opts []provisioner.Option) bool {
	without, with := d.Replica(), d.Replica()
	without.GPU, with.GPU = engine.GPUNone, engine.GPUOptional
	return without.Validate(opts...) != nil && with.Validate(opts...) == nil
}

// nextPort is the first free one from a port on. Where a hundred are taken, it is the port itself, and the start tells.
func (h *host) nextPort(from int) (number int, why string) {
	for n := from; n < from+100; n++ {
		switch {
		case h.taken(n):
		case n == from:
			return n, ""
		default:
			return n, fmt.Sprintf("%d is taken", from)
		}
	}
	return from, ""
}

// isTaken reports whether somebody has a port of this machine.
func isTaken(number int) bool {
	problem, err := port.Try("127.0.0.1", number, nil)
	return err == nil && problem.Reason == port.Taken
}

// brought is where an executable comes from, for people.
func brought(p settings.Provisioning) string {
	switch {
	case p.Binary != nil:
		return "release " + p.Binary.Release
	case p.Package != nil:
		return "package " + strings.Join(p.Package.Requirements, " ")
	}
	return p.Mode
}

// decided keeps why something was decided; "" means that it was asked for.
func (d *Draft) decided(key, value, why string) {
	if why == "" {
		return
	}
	d.reasons[key] = why
	d.Notes = append(d.Notes, tail.Clean(fmt.Sprintf("%s: %s; %s", key, value, why)))
}

// engine is the one that serves the model.
func (h *host) engine(req Request, m model) (chosen node.Engine, why string, err error) {
	if req.Engine != "" {
		chosen, err = h.named(req.Engine)
		return chosen, "", err
	}
	var here []node.Engine
	var names []string
	for _, e := range h.engines {
		switch {
		case e.Model == engine.ModelGGUF && m.kind == engine.ModelGGUF:
			return e, "", nil
		case e.Model == engine.ModelGGUF && m.kind == "": // it may hold such files all the same
			names = append(names, e.Name)
		case e.Model == engine.ModelFolder:
			names = append(names, e.Name)
			if e.Binary != "" {
				here = append(here, e)
			}
		}
	}
	if len(here) == 1 {
		return here[0], "the one in PATH that serves such models", nil
	}
	return chosen, "", &EngineError{req.Model, names}
}

func (h *host) named(name string) (node.Engine, error) {
	var known []string
	for _, e := range h.engines {
		if e.Command == "" {
			continue // its server is described in a file
		}
		if e.Name == name {
			return e, nil
		}
		known = append(known, e.Name)
	}
	err := fmt.Errorf("unknown engine %q; there are %s", name, strings.Join(known, ", "))
	switch near := nearest.Of(name, known); {
	case slices.ContainsFunc(h.engines, func(e node.Engine) bool { return e.Name == name }):
		err = fmt.Errorf("the engine %q runs what a pools file describes; without one there are %s", name, strings.Join(known, ", "))
	case near != "":
		err = fmt.Errorf("unknown engine %q; did you mean %q?", name, near)
	}
	return node.Engine{}, err
}

// reason is why there is no GPU, without the advice for who wants one.
func reason(err error) string {
	if gpu, ok := errors.AsType[*provisioner.GPUError](err); ok {
		err = gpu.Err
	}
	return err.Error()
}

// gpu is the policy that suits the host. What is wrong with a GPU or a driver that is there, the start tells: that the CPU
// serves instead is what nobody notices.
func (h *host) gpu() (policy engine.GPUPolicy, why string) {
	switch {
	case errors.Is(h.noGPU, provisioner.ErrNoDriver), errors.Is(h.noGPU, provisioner.ErrNoGPU):
		return engine.GPUNone, reason(h.noGPU)
	case h.noGPU != nil:
		return engine.GPURequired, reason(h.noGPU)
	}
	// Engines are built for NVIDIA unless somebody has chosen otherwise; integrated GPUs are on most machines.
	policy, vendor := engine.GPURequired, h.gpus[0].Vendor
	if vendor != "" && vendor != engine.VendorNVIDIA {
		policy = engine.GPUOptional
	}
	whole := map[int]bool{} // a GPU is listed with its partitions
	for _, g := range h.gpus {
		if g.Vendor == vendor {
			whole[g.Index] = true
		}
	}
	why = fmt.Sprintf("%d GPUs: %s", len(whole), h.gpus[0].Name)
	if len(whole) == 1 {
		why = "1 GPU: " + h.gpus[0].Name
	}
	if policy == engine.GPUOptional {
		why += "; the CPU serves where the engine was not built for it"
	}
	return policy, why
}
