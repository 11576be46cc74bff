package main

import (
	"strings"
	"testing"
)

func TestRunHere(t *testing.T) {
	t.Parallel()
	status, stdout, stderr := runHere(t, "version")
	if status != 0 || !strings.HasPrefix(stdout, "engine-provisioner ") || stderr != "" {
		t.Errorf("version: %d, %q, %q", status, stdout, stderr)
	}
	status, stdout, stderr = runHere(t, "nothing", "--output", "json")
	if status != 2 || !strings.Contains(stderr+stdout, `unknown command \"nothing\"`) {
		t.Errorf("unknown command: %d, %q, %q", status, stdout, stderr)
	}
}
