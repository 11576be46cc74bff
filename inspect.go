package provisioner

import (
	"context"
	"fmt"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/binary"
)

// Inspect finds out all that can be known of the executable that cfg asks for, and keeps it in the cache. Start and
// [Plan] do so themselves, but for the flags of a Python program: "vllm serve --help=all" takes 7 to 17 s. They check
// those against what an Inspect before them has found, by the version that is installed, and else leave them to the
// engine.
func Inspect(ctx context.Context, cfg ProvisionConfig, opts ...Option) (engine.Binary, error) {
	p, err := New(cfg, opts...)
	if err != nil {
		return engine.Binary{}, err
	}
	program := programOf(p.engine, p.cfg)
	path, pending, err := p.opts.supply.executable(p.cfg, program).Find(ctx)
	if err == nil && pending != "" {
		err = &binary.Error{Err: fmt.Errorf("the executable is not there yet: %s; call Prepare first", pending)}
	}
	if err != nil {
		return engine.Binary{}, p.startErrorIn(ctx, err)
	}
	b, err := p.opts.supply.inspector().Learn(ctx, path, program, plainEnv(p.cfg))
	if err != nil {
		return engine.Binary{}, p.startErrorIn(ctx, err)
	}
	return b, nil
}
