package fit

import (
	"errors"
	"fmt"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/report"
)

// ErrNoMemory is wrapped by a [LackError].
var ErrNoMemory = errors.New("not enough memory")

// LackError says that a model does not fit.
type LackError struct {
	Lacking []report.MemoryNeed     // at least one
	Advised map[engine.Cause]string // the advice on this launch
}

func (e *LackError) Error() string {
	var all []string
	for _, m := range e.Lacking {
		all = append(all, m.String())
	}
	return fmt.Sprintf("%v, by estimate: %s", ErrNoMemory, strings.Join(all, "; "))
}
func (e *LackError) Unwrap() error { return ErrNoMemory }

// Cause is that of an engine that would die of it.
func (e *LackError) Cause() engine.Cause {
	if e.Lacking[0].GPU != "" {
		return engine.CauseOOMGPU
	}
	return engine.CauseOOMHost
}
