package bytesize

import "testing"

func TestDecimal(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 999_600: "1.0 MB", 9_940_000: "9.9 MB", 98_000_000: "98 MB", 5e12: "5.0 TB",
	} {
		if got := Decimal(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
