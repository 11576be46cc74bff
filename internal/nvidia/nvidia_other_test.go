//go:build !linux || !(amd64 || arm64)

package nvidia

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

func TestUnsupportedBuild(t *testing.T) {
	t.Parallel()
	want := "amd64 and arm64 only"
	if runtime.GOOS != "linux" {
		want = "Linux only"
	}
	d := New()
	_, err1 := d.Devices()
	_, err2 := d.Processes()
	_, err3 := d.Version()
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, ErrNoDriver) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
