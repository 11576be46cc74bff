package procfs

import (
	"os"
	"slices"
	"testing"
)

func TestCmdline(t *testing.T) {
	t.Parallel()
	if got := Cmdline(os.Getpid()); !slices.Equal(got, os.Args) {
		t.Errorf("%q, want %q", got, os.Args)
	}
	if got := Cmdline(0); got != nil {
		t.Errorf("%q", got)
	}
}
