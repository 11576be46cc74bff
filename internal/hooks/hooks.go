// Package hooks owns what tests put in the place of the machine, or do in the middle of a launch.
//
// The root reads them from its options, which nothing but its own module's tests can set. No program sets one, and none
// changes what a launch does when it is left out.
package hooks

import "github.com/llama-orch/engine-provisioner/internal/gpu"

// Hooks are those of a launch. The zero value is that of every program.
type Hooks struct {
	// Failpoint is called at the steps that a test kills this program at; see At.
	Failpoint func(step string)
	// GPUs are instead of the node's driver.
	GPUs gpu.Driver
}

// At names a step of a launch to whoever tests what becomes of it when the program dies there.
func (h Hooks) At(step string) {
	if h.Failpoint != nil {
		h.Failpoint(step)
	}
}
