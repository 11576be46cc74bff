// Package bytesize writes numbers of bytes for people: those of files and downloads in powers of 1000, those of memory in powers of
// 1024.
//
// Whoever tells people of sizes calls it. It reads none: sizes in a pools file are package values'.
package bytesize

import "fmt"

// Decimal writes a number of bytes for people, such as "1.5 GB".
func Decimal(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	value, unit := float64(n)/1000, 0
	for ; value >= 999.5 && unit < len(units)-1; unit++ {
		value /= 1000
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %cB", value, units[unit])
	}
	return fmt.Sprintf("%.0f %cB", value, units[unit])
}

// Binary writes a number of bytes of memory, such as "5.2 GiB".
func Binary(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MiB", (n+1<<19)>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
