package pod

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMessage(t *testing.T) {
	t.Parallel()
	usage := strings.Split(strings.Repeat("--flag  what it does\n", 200), "\n")
	for name, test := range map[string]struct {
		words string
		lines []string
		want  func(text string) bool
	}{
		"short":     {"chat/r0: it died", nil, func(text string) bool { return text == "chat/r0: it died\n" }},
		"all lines": {"it died", []string{"one", "two"}, func(text string) bool { return text == "it died\none\ntwo\n" }},
		"usage": {"it died", append(usage, "the last"), func(text string) bool {
			return strings.HasPrefix(text, "it died\n--flag") && strings.HasSuffix(text, "\nthe last\n") && len(text) > maxMessage-30
		}},
		"long line last": {"it died", []string{"one", strings.Repeat("x", maxMessage)}, func(text string) bool { return text == "it died\n" }},
		"long cause": {strings.Repeat("ä€", 1000), []string{"one"}, func(text string) bool {
			return strings.HasPrefix(text, "ä€ä€") && strings.HasSuffix(text, "…\n") && len(text) > maxMessage-8
		}},
		"escapes": {"it died of \x1b[2J", []string{"one"}, func(text string) bool { return !strings.Contains(text, "\x1b") }},
	} {
		if text := message(test.words, test.lines); !test.want(text) || len(text) > maxMessage || !utf8.ValidString(text) {
			t.Errorf("%s: %d bytes: %q", name, len(text), text)
		}
	}
}
