package provisioner

import (
	"net/http"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/settings"
)

// A real llama-server takes a variable as it is said here that it does.
func TestRealFlagVariables(t *testing.T) {
	t.Parallel()
	for env, status := range map[string]int{
		"LLAMA_ARG_ENDPOINT_SLOTS=1": http.StatusOK, "LLAMA_ARG_ENDPOINT_SLOTS=off": http.StatusNotImplemented,
		"LLAMA_ARG_NO_ENDPOINT_SLOTS=0": http.StatusNotImplemented,
	} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			cfg := realConfig(t, tiny)
			name, value, _ := strings.Cut(env, "=")
			cfg.Env = map[string]settings.EnvValue{name: {Value: value}}
			p, _ := ready(t, cfg)
			resp, err := http.Get(p.handoff.URL + "/slots")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("/slots answers %d, want %d", resp.StatusCode, status)
			}
		})
	}
}
