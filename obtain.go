package provisioner

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/engine"
)

// SuggestedProvisioning tells how a replica's executable can be had on a host that lacks it: a release that is downloaded, a
// package that is installed, or an image, whichever comes first of those that suit the engine and "gpu". ok is false
// where that is not known. Only Engine and GPU of cfg matter, and of opts those that add an engine.
func SuggestedProvisioning(cfg ProvisionConfig, opts ...Option) (p Provisioning, ok bool) {
	o := newOptions(opts)
	return o.suggested(cfg)
}

func (o *options) suggested(cfg ProvisionConfig) (Provisioning, bool) {
	engine, ok := o.engine(cfg.Engine)
	if !ok {
		return Provisioning{}, false
	}
	return obtainable(programOf(engine, cfg))
}

func obtainable(program engine.Program) (Provisioning, bool) {
	switch {
	case program.Release != nil && program.Release.Known != "":
		return Provisioning{Binary: &BinaryConfig{Release: program.Release.Known}}, true
	case program.Package != "":
		return Provisioning{Mode: "package", Package: &PackageConfig{Requirements: []string{program.Package}}}, true
	case program.Image.Name != "" && program.Image.Tag != "":
		return Provisioning{Mode: modeContainer}, true
	}
	return Provisioning{}, false
}

// Line returns what [SuggestedProvisioning] has found, as people write it in a file.
func (p Provisioning) Line() string {
	switch {
	case p.Binary != nil:
		return fmt.Sprintf("provisioning: {binary: {release: %s}}", p.Binary.Release)
	case p.Package != nil:
		return fmt.Sprintf("provisioning: {mode: package, package: {requirements: ['%s']}}", p.Package.Requirements[0])
	}
	return fmt.Sprintf("provisioning: {mode: %s}", p.Mode)
}
