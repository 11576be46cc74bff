package python

import "testing"

func TestTokens(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"4096": 4096, "4k": 4000, "4K": 4096, "25.6k": 25600, "1M": 1 << 20, "-1": 0, "auto": 0, "": 0, "k": 0, "1e300": 0, "NaN": 0, "Inf": 0,
	} {
		if got := tokens(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
