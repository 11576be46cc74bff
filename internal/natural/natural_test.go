package natural

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	want := []string{"", "0", "01", "1", "9", "10", "chat-r2", "chat-r10", "chat-r10-a", "chat-r99999999999999999999", "chat-r100000000000000000000", "r", "r1", "r1b2", "r1b10", "r2a", "rest"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Compare)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// It is an order: of three names in any sequence, and equal names alone are equal.
func TestCompareIsAnOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[ab01]{0,5}`)
		a, b, c := name.Draw(t, "a"), name.Draw(t, "b"), name.Draw(t, "c")
		if Compare(a, b) != -Compare(b, a) || (Compare(a, b) == 0) != (a == b) {
			t.Fatalf("%q and %q: %d, %d", a, b, Compare(a, b), Compare(b, a))
		}
		if Compare(a, b) < 0 && Compare(b, c) < 0 && Compare(a, c) >= 0 {
			t.Fatalf("%q < %q < %q", a, b, c)
		}
		if !strings.ContainsAny(a+b, "01") && Compare(a, b) != strings.Compare(a, b) {
			t.Fatalf("%q and %q", a, b)
		}
	})
}
