package wake

import (
	"testing"
	"time"
)

// Whoever looks at the same interval wakes at the same moment, whenever it began.
func TestUntil(t *testing.T) {
	t.Parallel()
	second := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct{ after, interval, want time.Duration }{
		{0, time.Second, time.Second},
		{300 * time.Millisecond, time.Second, 700 * time.Millisecond},
		{900 * time.Millisecond, 5 * time.Second, 4100 * time.Millisecond},
		{260 * time.Millisecond, 250 * time.Millisecond, 240 * time.Millisecond},
	} {
		if got := Until(second.Add(c.after), c.interval); got != c.want {
			t.Errorf("%s after a second, every %s: in %s, want %s", c.after, c.interval, got, c.want)
		}
	}
}
