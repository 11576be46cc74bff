package acquire

import (
	"errors"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// Only a failure of the network is worth another try.
func TestExplainInstaller(t *testing.T) {
	t.Parallel()
	for said, retry := range map[string]bool{"dns error: no such host": true, "ERROR: No matching distribution found for x": false} {
		failed := Package{Command: "vllm"}.explain(t.Context(), "", &tool.Error{Lines: []string{said}, Err: errors.New("exit status 1")})
		var known *Error
		if !errors.As(failed, &known) || known.Retry != retry || known.What != "cannot install vllm" {
			t.Errorf("%q: %+v", said, failed)
		}
	}
}

func TestNoInterpreter(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]Package{
		`cannot install x: there is no Python "python3.99"; install it, or set "python"`: {
			Command: "x", Config: PackageConfig{Python: "3.99", Installer: "pip"},
		},
		`cannot install x: there is no Python "/srv/absent/python"; install it, or set "python"`: {
			Command: "x", Config: PackageConfig{Python: "./absent/python"}, Dir: "/srv",
		},
	} {
		if _, err := p.installer(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
