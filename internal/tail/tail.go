// Package tail makes what others have written safe to show: the last lines of an engine's log, which has control sequences and half a
// megabyte without a newline in it, and the names of files, repositories and processes that stand in messages. Everybody who puts
// foreign text into a message, or a message on a terminal, calls it.
//
// It knows no secrets, which the caller takes out before, and it writes nothing.
package tail

import (
	"bytes"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/llama-orch/engine-provisioner/internal/logcap"
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
	return LinesOf(f)
}

// LinesOf is Lines of an open file, which may have lost its name.
func LinesOf(f *os.File) []string {
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	size := info.Size()
	// The byte before the window tells whether a line begins there. Before the first data a hole is all that is there.
	start := max(logcap.FirstData(f), size-window-1)
	buf := make([]byte, size-start)
	n, _ := f.ReadAt(buf, start) // a file that shrank meanwhile gives what is left
	buf = bytes.TrimLeft(buf[:n], "\x00")
	if start > 0 {
		if i := bytes.IndexByte(buf, '\n'); i >= 0 && i+1 < len(buf) {
			buf = buf[i+1:]
		}
	}
	return Text(string(buf))
}

// Text returns all lines of a text, cleaned.
func Text(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = Clean(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// All returns the lines of the whole file, cleaned, up to its first 16 MiB: what an engine says of itself stands at
// the beginning. In a log that was cut, it is what is left of that.
func All(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return AllOf(f)
}

// AllOf is All of an open file, which may have lost its name.
func AllOf(f *os.File) []string {
	const limit = 16 << 20
	first := logcap.FirstData(f)
	data, _ := io.ReadAll(io.NewSectionReader(f, first, limit))
	return Text(string(bytes.TrimLeft(data, "\x00")))
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

// LastWords is the last line that says something.
func LastWords(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(lines[i]); line != "" {
			return line
		}
	}
	return ""
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
// control characters but tabs, nothing that reorders text, no space at its end.
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
		case r < 0x20 || r >= 0x7f && r < 0xa0 || reorders(r):
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return strings.TrimRight(b.String(), " \t")
}

// escape is the length of the escape sequence that s begins with. introducer, of n bytes, is ESC or its one-rune CSI.
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
		return skip(s, skipAll(s, n, 0x20, 0x3f), 0x40, 0x7e)
	case ']': // OSC: up to BEL or ESC \
		for n < len(s) && s[n] != 0x07 && s[n] != 0x1b && s[n] != '\n' {
			n++
		}
		return skip(s, n, 0x07, 0x07)
	default: // such as ESC 7, or ESC ( B
		return skip(s, skipAll(s, 1, 0x20, 0x2f), 0x30, 0x7e)
	}
}

// skip is n, or one more when the byte there is from first to last.
func skip(s string, n int, first, last byte) int {
	if n < len(s) && first <= s[n] && s[n] <= last {
		n++
	}
	return n
}

func skipAll(s string, n int, first, last byte) int {
	for n < len(s) && first <= s[n] && s[n] <= last {
		n++
	}
	return n
}

// reorders reports whether r changes how the text around it reads: in which direction, or on which line.
func reorders(r rune) bool {
	return unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}
