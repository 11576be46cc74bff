package ephemeral

import "testing"

func TestMay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		local, reserved string
		port            int
		want            bool
	}{
		{"32768\t60999\n", "\n", 32767, false},
		{"32768\t60999\n", "\n", 32768, true},
		{"32768\t60999\n", "\n", 60999, true},
		{"32768\t60999\n", "\n", 61000, false},
		{"32768\t60999\n", "40000\n", 40000, false},
		{"32768\t60999\n", "8080,40000-40003\n", 40003, false},
		{"32768\t60999\n", "8080,40000-40003\n", 40004, true},
		{"1024 65535", "8081-", 8081, true},
		{"", "", 40000, false},
		{"a b", "", 40000, false},
		{"0 0", "", 0, false},
	} {
		if got := Parse(c.local, c.reserved).May(c.port); got != c.want {
			t.Errorf("%q, %q, %d: %t", c.local, c.reserved, c.port, got)
		}
	}
}
