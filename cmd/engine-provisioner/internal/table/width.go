package table

import "strings"

// Shorten cuts text to a number of columns.
func Shorten(text string, width int) string {
	if Columns(text) <= width {
		return text
	}
	used := 1 // the mark
	for i, r := range text {
		used += runeColumns(r)
		if used > width {
			return strings.TrimRight(text[:i], " ") + "…"
		}
	}
	return text
}

// Columns is how many columns of a terminal a text takes, or fewer.
func Columns(text string) int {
	n := 0
	for _, r := range text {
		n += runeColumns(r)
	}
	return n
}

// runeColumns takes everything from Hangul on for wide: a line that is too short does no harm, one that wraps does. A
// tab is as wide as it can be.
func runeColumns(r rune) int {
	switch {
	case r == '\t':
		return 8
	case r >= 0x1100 && r < 0x2000 || r >= 0x2e80:
		return 2
	}
	return 1
}
