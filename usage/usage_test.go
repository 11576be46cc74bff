package usage

import "testing"

// What does not say that it has nothing to do may be at work.
func TestIdle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		usage Usage
		want  bool
	}{
		"says nothing":              {Usage{}, false},
		"no request":                {Usage{Running: new(0)}, true},
		"none, and none that waits": {Usage{Running: new(0), Waiting: new(0)}, true},
		"one that waits":            {Usage{Running: new(0), Waiting: new(1)}, false},
		"one":                       {Usage{Running: new(1), Waiting: new(0)}, false},
		"asleep":                    {Usage{Asleep: true}, true},
		"loads":                     {Usage{Load: &Load{}, Running: new(0)}, false},
	} {
		if got := c.usage.Idle(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
