// Package unitvalue reads values of systemd's units by systemd's rules: words and times. The package importer calls it; the unit
// itself is read by a library.
package unitvalue

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Words splits a line of a systemd unit as systemd does: words end at blanks outside of quotes, quotes open at the
// beginning of a word or after "=", and a backslash begins one of C's escapes.
func Words(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\':
			text, n, err := escape(line[i:])
			if err != nil {
				return nil, err
			}
			word.WriteString(text)
			inWord = true
			i += n - 1
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		case c == '"' || c == '\'':
			quote, inWord = c, true
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

var escapes = map[byte]string{
	'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v", '\\': `\`, '"': `"`, '\'': "'", 's': " ",
}

// escape is the text of the escape that s begins with, and its length. One that systemd does not know stays as it is,
// as there.
func escape(s string) (text string, n int, err error) {
	if len(s) < 2 {
		return "", 0, errors.New("a backslash stands at the end")
	}
	if text, ok := escapes[s[1]]; ok {
		return text, 2, nil
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	base, from := 16, 2
	if digits == 0 && s[1] >= '0' && s[1] <= '7' {
		digits, base, from = 3, 8, 1
	}
	if digits == 0 || len(s) < from+digits {
		return s[:2], 2, nil
	}
	code, notDigits := strconv.ParseUint(s[from:from+digits], base, 32)
	switch {
	case notDigits != nil:
		return s[:2], 2, nil //nolint:nilerr // it is no escape, and stays as it is
	case code == 0:
		return "", 0, errors.New("an escape stands for a NUL character")
	case s[1] == 'x' || base == 8:
		if code > 255 {
			return s[:2], 2, nil
		}
		return string([]byte{byte(code)}), from + digits, nil
	case code > utf8.MaxRune:
		return s[:2], 2, nil
	}
	return string(rune(code)), from + digits, nil
}
