package provisioner

import (
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/binary"
)

// executable is the way by which an engine's executable is had: the one of its mode of provisioning.
func (o *options) executable(cfg ProvisionConfig, program engine.Program) acquire.Way {
	if p := cfg.Provisioning; p.Mode == "source" {
		return acquire.Source{
			Cache: o.store(), Config: acquire.SourceConfig(*p.Source), Dir: cfg.Dir, Command: program.Command, Flags: program.SourceFlags,
		}
	}
	if p := cfg.Provisioning; p.Mode == "package" {
		return acquire.Package{Cache: o.store(), Config: acquire.PackageConfig(*p.Package), Dir: cfg.Dir, Command: program.Command}
	}
	if b := cfg.Provisioning.Binary; b != nil && (b.URL != "" || b.Release != "") {
		return acquire.Download{
			Cache: o.store(), Config: acquire.BinaryConfig(*b), Command: program.Command, Release: program.Release, GPU: cfg.GPU != GPUNone,
			API: o.releases,
		}
	}
	return acquire.Local(wanted(cfg, program, o.searchPath()))
}

// wanted is the engine's executable: the configured path, or the engine's usual name in the folders of searchPath.
func wanted(cfg ProvisionConfig, program engine.Program, searchPath string) binary.Wanted {
	w := binary.Wanted{Name: program.Command, Dir: cfg.Dir, Path: searchPath, Key: "provisioning.binary.path"}
	if cfg.Custom != nil {
		w.Key = "custom.command"
	}
	if b := cfg.Provisioning.Binary; b != nil && b.Path != "" {
		w.Name = b.Path
	}
	if p, ok := obtainable(program); ok {
		w.Else = p.Line()
	}
	return w
}

// inspector learns what executables are, and keeps it in the cache where there is one.
func (o *options) inspector() binary.Inspector {
	if dir := o.cache(); dir != "" {
		return binary.Inspector{Dir: filepath.Join(dir, "binaries")}
	}
	return binary.Inspector{}
}
