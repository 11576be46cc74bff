package pod

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// What was put where the message goes loses nothing, and keeps no run from ending.
func TestPlantedMessage(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(victim, path string) error{
		"hard link":     os.Link,
		"symbolic link": os.Symlink,
		"fifo":          func(_, path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory":     func(_, path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "log")
			if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := plant(victim, path); err != nil {
				t.Fatal(err)
			}
			if err := LeaveMessage(path, "it died", nil); err == nil {
				t.Error("no error")
			}
			if kept, err := os.ReadFile(victim); err != nil || string(kept) != "precious" {
				t.Errorf("the file is now %q (%v)", kept, err)
			}
		})
	}
}

// An earlier, longer message is replaced.
func TestMessageAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	for _, words := range []string{"it died of something", "it died"} {
		if err := LeaveMessage(path, words, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != words+"\n" {
			t.Errorf("%q (%v)", got, err)
		}
	}
}
