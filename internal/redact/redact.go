// Package redact knows what looks like a secret in texts that others have written, such as command lines, and takes it out
// of them before people see them.
//
// Whoever shows or keeps such a text calls it. It guesses by names; the secrets of a configuration are known, and are looked
// for by their values elsewhere.
package redact

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Word stands for what was taken out.
const Word = "[redacted]"

var (
	secretFlag = lazyregexp.New(`(?i)^-.*(?:key|token|secret|password|passwd|credentials?|auth)$`)
	secretName = lazyregexp.New(`(?i)(^|[_.-])((?:api)?key|token|secret|password|passwd|pass|credentials?|authorization)($|[_.-])`)
	secretText = lazyregexp.New(`(?i)((?:key|token|secret|password|passwd|credentials?)["']?(?:=|: ?)|bearer )[^\s]+`)
	// What tokens of the hub, of services that speak OpenAI's protocol, and of code hosts look like under any name.
	secretShape = lazyregexp.New(`\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,})`)
	userInURL   = lazyregexp.New(`://[^/@\s]+@`)
	// The user alone is a token for a web server, and a name for ssh. Clients differ in how many slashes they want, and of which kind.
	loginInURL = lazyregexp.New(`(?i)https?:[/\\]*[^/\\?#@\s]*@|://[^/?#@\s]*:[^/@\s]*@`)
	parameter  = lazyregexp.New(`[?&;#]([^=&;#\s]+)=[^&;#\s{]`) // what is filled in, as in "?key={pool}", is none
	signed     = lazyregexp.New(`(?i)^(sig|signature|x-(amz|goog)-signature)$`)
	signature  = lazyregexp.New(`(?i)^(sig|signature|jwt|pwd|auth|.*-signature)$`)
)

// Flag reports whether the value of a flag, such as "--api-key", is likely to be a secret.
func Flag(flag string) bool { return secretFlag.MatchString(flag) }

// Name reports whether the value of a variable, or of a key of a file, is likely to be a secret.
func Name(name string) bool { return secretName.MatchString(name) }

// Value reports whether a value looks like a secret, or holds one, whatever its name.
func Value(value string) bool { return secretShape.MatchString(value) || HasUser(value) }

// Shapes takes out what looks like a secret whatever stands around it.
func Shapes(text string) string { return User(secretShape.ReplaceAllLiteralString(text, Word), Word) }

// Text takes out what looks like a secret, or stands behind the name of one.
func Text(text string) string { return Shapes(secretText.ReplaceAllString(text, "${1}"+Word)) }

// maxShort is about a line: a comment reminds of what stood there.
const maxShort = 120

// Short is [Text] as one short line.
func Short(text string) string {
	text = strings.Join(strings.Fields(Text(text)), " ")
	if runes := []rune(text); len(runes) > maxShort {
		return string(runes[:maxShort]) + "…"
	}
	return text
}

// Args takes out the values of flags that are likely to be secrets; [Text] finds the others.
func Args(args []string) []string {
	args = slices.Clone(args)
	hide := false
	for i, arg := range args {
		flag := strings.HasPrefix(arg, "-")
		if hide && !flag {
			args[i] = Word
		}
		hide = hide && !flag || Flag(arg) // a flag may take several
	}
	return args
}

// InURL tells what the URLs in a text have that no file should hold, in the words of an error; "" for nothing.
func InURL(text string) string {
	if loginInURL.MatchString(text) {
		return "a user or password"
	}
	for _, m := range parameter.FindAllStringSubmatch(text, -1) {
		name, err := url.QueryUnescape(m[1])
		if strings.Contains(text, ":/") && (err != nil || Name(name) || signature.MatchString(name)) {
			return "what looks like a secret in the query of a URL"
		}
	}
	return ""
}

// Signed reports whether a URL holds the signature that an object store gives an address for a time.
func Signed(address string) bool {
	return slices.ContainsFunc(parameter.FindAllStringSubmatch(address, -1), func(m []string) bool { return signed.MatchString(m[1]) })
}

// HasUser reports whether a text has a URL with a user in it, whose password may be there as well.
func HasUser(text string) bool { return userInURL.MatchString(text) }

// User puts word in the place of the users of URLs.
func User(text, word string) string { return userInURL.ReplaceAllLiteralString(text, "://"+word+"@") }

// CommandLine is a process's command line for people: short, and without what may be a secret. Others can see it in ps,
// but not in our logs.
func CommandLine(args []string) string {
	const most = 240
	line := tail.Clean(strings.Join(strings.Fields(Text(strings.Join(Args(args), " "))), " "))
	if utf8.RuneCountInString(line) > most {
		return string([]rune(line)[:most]) + "…"
	}
	return line
}
