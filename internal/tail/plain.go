package tail

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Plain makes a text of several lines, with foreign names in it, safe for a terminal. What [Clean] takes out is shown as "�", so that
// it hides nothing of what stands behind it.
func Plain(text string) string {
	if !strings.ContainsFunc(text, unsafe) {
		return text // the usual case, and also a text that was made safe before
	}
	return strings.Map(func(r rune) rune {
		if unsafe(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

// unsafe reports whether a rune does something to a terminal rather than to stand there. A line's end and a tab may.
func unsafe(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || reorders(r) || r == utf8.RuneError
}

// Name is a foreign name as it stands in a message: as it is, or quoted where it would be taken for something else.
func Name(name string) string {
	plain := name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return unsafe(r) || !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune("\"'`,;\\", r)
	})
	if plain {
		return name
	}
	return strconv.Quote(name)
}

// Names are foreign names in a message.
func Names(names []string) string {
	shown := make([]string, len(names))
	for i, name := range names {
		shown[i] = Name(name)
	}
	return strings.Join(shown, ", ")
}

// Writer makes what is written to w safe for a terminal, as [Plain] does. It is safe for concurrent use.
func Writer(w io.Writer) io.Writer { return &plainWriter{w: w} }

type plainWriter struct {
	w    io.Writer
	mu   sync.Mutex
	half []byte // of a rune, whose rest may come
}

func (p *plainWriter) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := slices.Concat(p.half, data)
	whole := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if last := text[len(text)-i:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				whole -= i
			}
			break
		}
	}
	p.half = append([]byte(nil), text[whole:]...)
	if _, err := io.WriteString(p.w, Plain(string(text[:whole]))); err != nil {
		return 0, err
	}
	return len(data), nil
}

// JSON makes encoded JSON safe for a terminal without changing what it says: what [Plain] would take out is escaped.
func JSON(encoded []byte) []byte {
	var b strings.Builder
	for _, r := range string(encoded) {
		if unsafe(r) && r != utf8.RuneError {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return []byte(b.String())
}
