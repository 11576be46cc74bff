package node

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Elsewhere returns what a launch of cfg would run on another machine, as far as cfg alone tells: nothing of this one is looked at,
// neither GPUs nor executables, models, ports and variables. So a build for a GPU can be planned where there is none. What depends
// on the machine is empty in it: the version, the devices, the memory, the paths of the state directory; the model is the reference.
// The errors are those of [provisioner.ProvisionConfig.Validate], and flags are judged by the version that cfg pins.
func Elsewhere(cfg provisioner.ProvisionConfig, opts ...provisioner.Option) (report.Plan, error) {
	if err := cfg.Validate(opts...); err != nil {
		return report.Plan{}, err
	}
	cfg = cfg.WithDefaults()
	program, spec, err := cfg.Describe(opts...)
	if err != nil {
		return report.Plan{}, fmt.Errorf("cannot plan %s: %w", cfg.Name(), err)
	}
	plan := report.Plan{
		Pool: cfg.PoolID, Replica: cfg.ReplicaID, Engine: cfg.Engine, Elsewhere: true,
		Dir: cfg.Dir, Model: cfg.Model.ID, URL: probe.URL(port.Loopback(cfg.Host), cfg.Port), Flags: slices.Clone(spec.Flags),
		Grace: cmp.Or(cfg.Stop.Grace, settings.Duration(spec.Grace)), Env: variables(cfg, spec), Pending: []string{toGet(cfg, program)},
	}
	for i, f := range plan.Flags { // where the model is, its place is not known
		if n := slices.Index(f.Args, ""); n > 0 && f.Origin == engine.OriginProvisioner {
			plan.Flags[i].Args = slices.Clone(f.Args)
			plan.Flags[i].Args[n] = cfg.Model.ID
		}
	}
	for _, n := range spec.Notes {
		plan.Notes = append(plan.Notes, n.Key+": "+n.Message)
	}
	if cfg.GPU == engine.GPURequired || cfg.GPU == engine.GPUOptional {
		plan.Notes = append(plan.Notes, deviceNote(cfg))
	}
	plan.Notes = append(plan.Notes, config.OpenNotes(cfg.Host, cfg.Expose, cfg.APIKey != nil)...)
	return plan, nil
}

// deviceNote is what cfg asks of the GPUs of the machine.
func deviceNote(cfg provisioner.ProvisionConfig) string {
	what := string(cfg.GPU)
	if len(cfg.Devices) > 0 {
		names := make([]string, len(cfg.Devices))
		for i, d := range cfg.Devices {
			names[i] = string(d)
		}
		what += ", devices " + strings.Join(names, ", ")
	}
	return "gpu: " + what + "; which of them are there, and what follows from it for the command line, is seen on that machine"
}

// variables are those of the environment that the configuration gives the engine.
func variables(cfg provisioner.ProvisionConfig, spec engine.LaunchSpec) (all []report.Variable) {
	for _, name := range slices.Sorted(maps.Keys(spec.Env)) {
		if _, own := cfg.Env[name]; !own {
			all = append(all, report.Variable{Name: name, Origin: "engine"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Env)) {
		all = append(all, report.Variable{Name: name, Origin: "config"})
	}
	if cfg.APIKey != nil && spec.KeyEnv != "" {
		all = append(all, report.Variable{Name: spec.KeyEnv, Origin: "api_key"})
	}
	return all
}

// toGet is how the executable is had.
func toGet(cfg provisioner.ProvisionConfig, program engine.Program) string {
	p, name := cfg.Provisioning, filepath.Base(program.Command)
	switch {
	case p.Source != nil:
		return acquire.Source{Config: acquire.SourceConfig(*p.Source), Dir: cfg.Dir, Command: program.Command, Flags: program.SourceFlags}.With("cmake")
	case p.Package != nil && p.Package.Lock != "":
		return "install the Python packages of " + p.Package.Lock
	case p.Package != nil:
		return "install the Python packages " + strings.Join(p.Package.Requirements, ", ")
	case p.Mode == "container":
		return "pull " + cmp.Or(p.Container, &settings.Container{}).Reference(program.Image)
	case p.Binary != nil && p.Binary.Release != "":
		return fmt.Sprintf("download %s of the release %s", name, p.Binary.Release)
	case p.Binary != nil && p.Binary.URL != "":
		return "download " + p.Binary.URL
	case p.Binary != nil && p.Binary.Path != "":
		return "find " + p.Binary.Path
	}
	return "find " + name + " in PATH"
}
