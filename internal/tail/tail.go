// Package tail reads the last lines of an engine's log as text that is safe to show: engines write whatever they
// like, control sequences and half a megabyte without a newline among it.
package tail

import (
	"bytes"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// The limits keep an error readable and bounded: about a screen.
const (
	window   = 64 << 10 // read from the file's end
	maxLines = 20
	maxLine  = 512
	maxTotal = 4 << 10
)

// Lines returns all lines in the last 64 KiB of the file, cleaned; the first is dropped when it is cut. They are
// meant to be searched; Last makes them short enough to show.
func Lines(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil
	}
	start := max(0, size-window)
	buf := make([]byte, size-start)
	n, _ := f.ReadAt(buf, start) // a file that shrank meanwhile gives what is left
	buf = buf[:n]
	if start > 0 {
		if i := bytes.IndexByte(buf, '\n'); i >= 0 && i+1 < len(buf) {
			buf = buf[i+1:]
		}
	}
	return clean(buf)
}

func clean(data []byte) []string {
	var lines []string
	for line := range strings.Lines(string(data)) {
		if line = Clean(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// All returns the lines of the whole file, cleaned, up to its first 16 MiB: what an engine says of itself stands at
// the beginning.
func All(path string) []string {
	const limit = 16 << 20
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, limit))
	return clean(data)
}

// Last is the end of lines that is fit for an error: at most 20 lines of at most 512 bytes, at most 4 KiB in all.
func Last(lines []string) []string {
	total, first := 0, len(lines)
	for first > 0 && len(lines)-first < maxLines {
		n := min(len(lines[first-1]), maxLine)
		if total+n > maxTotal {
			break
		}
		total += n
		first--
	}
	last := make([]string, 0, len(lines)-first)
	for _, line := range lines[first:] {
		last = append(last, Cut(line))
	}
	return last
}

// Cut shortens a line to 512 bytes. It keeps the end: that is where the reason stands in "prefix: prefix: reason".
func Cut(line string) string {
	if len(line) <= maxLine {
		return line
	}
	const mark = "…"
	line = line[len(line)-maxLine+len(mark):]
	for len(line) > 0 && !utf8.RuneStart(line[0]) {
		line = line[1:]
	}
	return mark + line
}

// Clean makes one line of foreign output safe for a terminal and for JSON: valid UTF-8, no escape sequences, no
// control characters but tabs, no space at its end.
func Clean(line string) string {
	var b strings.Builder
	for i := 0; i < len(line); {
		r, n := utf8.DecodeRuneInString(line[i:])
		switch {
		case r == 0x1b || r == 0x9b:
			n = escape(line[i:], r, n)
		case r == utf8.RuneError && n == 1:
			b.WriteRune(utf8.RuneError)
		case r == '\t':
			b.WriteByte('\t')
		case r < 0x20 || r >= 0x7f && r < 0xa0 || bidi(r):
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return strings.TrimRight(b.String(), " \t")
}

// escape is the length of the escape sequence that s begins with: CSI and OSC in full, any other with one byte more.
func escape(s string, introducer rune, n int) int {
	kind := byte('[')
	if introducer == 0x1b {
		if len(s) == 1 {
			return 1
		}
		kind = s[1]
		n = 2
	}
	switch kind {
	case '[': // CSI: parameters, then one byte from @ to ~
		for n < len(s) && s[n] >= 0x20 && s[n] < 0x40 {
			n++
		}
		if n < len(s) && s[n] >= 0x40 && s[n] <= 0x7e {
			n++
		}
	case ']': // OSC: up to BEL or ESC \
		for n < len(s) && s[n] != 0x07 && s[n] != 0x1b && s[n] != '\n' {
			n++
		}
		if n < len(s) && s[n] == 0x07 {
			n++
		}
	default:
		if kind >= 0x80 {
			return 1
		}
	}
	return n
}

// bidi reports whether r reorders the text around it, which can make a line read as something else.
func bidi(r rune) bool { return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 }
