package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTopNeedsATerminal(t *testing.T) {
	t.Parallel()
	config, _ := poolsFile(t, 1)
	cmd := command(t, nil, "top", "--config", config)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != exitUsage || !strings.Contains(out.String(), `"top" needs a terminal`) {
		t.Errorf("%v: %s", err, out.String())
	}
}
