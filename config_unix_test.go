//go:build unix

package provisioner

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestLoadConfigFromPipe proves that a named pipe that nobody writes to is refused, and not waited for.
func TestLoadConfigFromPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := LoadConfig(pipe)
	want := pipe + ": cannot read the configuration: not a regular file; give the path of a YAML or JSON file"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
