package fleet

import (
	"path/filepath"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// script makes the executable a shell script.
func script(t *testing.T, cfg *provisioner.ProvisionConfig, body string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "llama-server")
	writeProgram(t, path, "#!/bin/sh\n"+body+"\n")
	cfg.Provisioning.Binary.Path = path
}
