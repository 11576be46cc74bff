package provisioner

import (
	"context"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/binary"
)

// executable is where an engine's executable comes from, by one mode of provisioning.
type executable interface {
	// find gives its path where it is on this node, and otherwise says what get would do, for people.
	find(ctx context.Context) (path, pending string, err error)
	// get brings it onto this node.
	get(ctx context.Context, tell listener) (path string, err error)
}

func (o *options) executable(cfg ProvisionConfig, program engine.Program) executable {
	if p := cfg.Provisioning; p.Mode == "source" {
		return sourceBuild{opts: o, cfg: cfg, source: *p.Source, program: program}
	}
	if p := cfg.Provisioning; p.Mode == "package" {
		return pythonPackage{opts: o, cfg: cfg, pkg: *p.Package, program: program}
	}
	if b := cfg.Provisioning.Binary; b != nil && (b.URL != "" || b.Release != "") {
		return downloadedBinary{opts: o, cfg: cfg, binary: *b, program: program}
	}
	return localBinary(wanted(cfg, program, o.searchPath()))
}

// localBinary is an executable that is on this node already.
type localBinary binary.Wanted

func (b localBinary) get(context.Context, listener) (string, error) { return binary.Wanted(b).Find() }

func (b localBinary) find(context.Context) (path, pending string, err error) {
	path, err = binary.Wanted(b).Find()
	return path, "", err
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
		w.Else = provisioningLine(p)
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
