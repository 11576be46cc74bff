package version

import "testing"

func TestNumber(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]int{
		"0.28.0": 28000, "0.32.0+cpu": 32000, "0.5.15.post1": 5015, "3.3.6-dev0": 3003006, "v1.2": 1002000, "0.18.0rc1": 18000,
		"": 0, "dev": 0, "1": 0, "9999.1.1": 0, "b11669-Debian": 0,
	} {
		if got := Number(version); got != want {
			t.Errorf("%q: got %d, want %d", version, got, want)
		}
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"0.32.0", "0.32.0", true},
		{"0.32.0", "0.32.0+cpu", true},
		{"0.32.0+cpu", "0.32.0", true},
		{"0.32.0+cpu", "0.32.0+cu130", false},
		{"0.32.0", "0.32.1", false},
		{"b11669-Debian", "b11669", false},
	} {
		if got := Same(test.a, test.b); got != test.want {
			t.Errorf("%q and %q: %v", test.a, test.b, got)
		}
	}
}
