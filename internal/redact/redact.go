// Package redact knows what looks like a secret in texts that others have written, such as command lines, and takes it out
// of them before people see them.
//
// Whoever shows or keeps such a text calls it. It guesses by names; the secrets of a configuration are known, and are looked
// for by their values elsewhere.
package redact

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Word stands for what was taken out.
const Word = "[redacted]"

var (
	secretFlag = regexp.MustCompile(`(?i)^-.*(?:key|token|secret|password|passwd|credentials?|auth)$`)
	secretText = regexp.MustCompile(`(?i)((?:key|token|secret|password|passwd|credentials?)(?:=|: ?)|bearer )[^\s]+`)
	userInURL  = regexp.MustCompile(`://[^/@\s]+@`)
)

// Flag reports whether the value of a flag, such as "--api-key", is likely to be a secret.
func Flag(flag string) bool { return secretFlag.MatchString(flag) }

// HasUser reports whether a text has a URL with a user in it, whose password may be there as well.
func HasUser(text string) bool { return userInURL.MatchString(text) }

// User puts word in the place of the users of URLs.
func User(text, word string) string { return userInURL.ReplaceAllLiteralString(text, "://"+word+"@") }

// CommandLine is a process's command line for people: short, and without what may be a secret. Others can see it in ps,
// but not in our logs.
func CommandLine(args []string) string {
	const most = 240
	var shown []string
	hide := false
	for _, arg := range args {
		flag := strings.HasPrefix(arg, "-")
		if hide && !flag {
			arg = Word
		}
		hide = hide && !flag || Flag(arg) // a flag may take several
		shown = append(shown, strings.Join(strings.Fields(arg), " "))
	}
	line := secretText.ReplaceAllString(strings.Join(shown, " "), "${1}"+Word)
	line = tail.Clean(User(line, Word))
	if utf8.RuneCountInString(line) > most {
		return string([]rune(line)[:most]) + "…"
	}
	return line
}
