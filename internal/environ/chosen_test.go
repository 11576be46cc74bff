package environ

import (
	"maps"
	"slices"
	"testing"
)

// No pattern brings a secret, what other keys decide, or what systemd tells this program of itself.
func TestChosen(t *testing.T) {
	for _, name := range []string{
		"AN_A", "AN_B", "AN_TOKEN", "NOTIFY_SOCKET", "NOTIFY_X", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
		"LLAMA_ARG_PORT", "CUDA_VISIBLE_DEVICES", "CUDA_X",
	} {
		t.Setenv(name, "1")
	}
	got := slices.Sorted(maps.Keys(Chosen([]string{"AN_*", "NOTIFY_*", "WATCHDOG_*", "LISTEN_*", "LLAMA_*", "CUDA_*"})))
	if want := []string{"AN_A", "AN_B", "CUDA_X", "NOTIFY_X"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, name := range managers {
		if BadPattern(name) == "" {
			t.Errorf("%s is taken", name)
		}
	}
}
