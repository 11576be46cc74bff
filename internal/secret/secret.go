// Package secret holds texts that must not be seen, and takes them out of what engines write.
//
// Who needs a secret of a configuration has it looked up here, at the moment of its use, and keeps it as a Text. The package
// writes no secret anywhere, and no error of it holds one.
package secret

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Text is a text that must not be seen. Whatever prints it prints "[redacted]"; Reveal is the only way to it. It is
// behind a pointer, because fmt does not call the methods of unexported fields, and would print a string there.
type Text struct{ text *string }

// Format prints that there is something, and not what.
func (Text) Format(w fmt.State, _ rune) { fmt.Fprint(w, redact.Word) } // whatever the verb: %d passes String by

// MarshalText is Format for documents.
func (Text) MarshalText() ([]byte, error) { return []byte(redact.Word), nil }

// Reveal is the text itself; "" for the zero value.
func (s Text) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Of is a secret that is known already.
func Of(text string) Text { return Text{&text} }

// New is a secret that was found in a place, which the error names.
func New(text, where string) (Text, error) {
	switch {
	case text == "":
		return Text{}, fmt.Errorf("%s is empty; put the secret into it", where)
	case strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return Text{}, fmt.Errorf("%s holds a control character; it must hold the secret alone, on one line", where)
	}
	return Of(text), nil
}

// FromEnv looks a secret up in this program's environment.
func FromEnv(name string) (Text, error) {
	text := os.Getenv(name)
	if text == "" {
		return Text{}, fmt.Errorf("the environment variable %q is not set; set it before the start", name)
	}
	return New(text, fmt.Sprintf("the environment variable %q", name))
}

// FromFile reads a file that holds a secret alone, on one line.
func FromFile(path string) (Text, error) {
	text, where, err := readFile(path)
	if err != nil {
		return Text{}, err
	}
	return New(text, where)
}

// Keys are those that clients may present. Where this program is the client, it presents the first.
type Keys []Text

// KeysFromFile reads a file that holds one key a line. As in a file for llama-server's --api-key-file, lines that are empty
// or begin with "#" are none; where there is one line alone, it is the key.
func KeysFromFile(path string) (Keys, error) {
	text, where, err := readFile(path)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(text, "\n")
	if len(lines) > 1 {
		lines = slices.DeleteFunc(lines, func(line string) bool {
			return strings.TrimRight(line, "\r") == "" || strings.HasPrefix(line, "#")
		})
	}
	var keys Keys
	for _, line := range lines {
		key, err := New(strings.TrimSuffix(line, "\r"), where)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key; put one into it, on a line that does not begin with \"#\"", where)
	}
	return keys, nil
}

// First is the key that is presented; the zero value where there is none.
func (k Keys) First() Text {
	if len(k) == 0 {
		return Text{}
	}
	return k[0]
}

// Joined is all of them in one text, for an engine's variable.
func (k Keys) Joined(separator string) string {
	texts := make([]string, len(k))
	for i, key := range k {
		texts[i] = key.Reveal()
	}
	return strings.Join(texts, separator)
}

// readFile is what a file holds, without the end of its last line, and where that is, for people.
func readFile(path string) (text, where string, err error) {
	// Reading a pipe could take for ever.
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		if err == nil {
			err = fmt.Errorf("%q is a %s", path, access.Kind(info))
		}
		return "", "", fmt.Errorf("cannot read the secret: %w; name a readable file in \"from_file\"", access.Explain(err))
	}
	f, err := os.Open(path)
	if err != nil {
		return "", "", fmt.Errorf("cannot read the secret: %w; name a readable file in \"from_file\"", access.Explain(err))
	}
	defer f.Close()
	const limit = 16 << 10
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return "", "", fmt.Errorf("cannot read the secret: %w", err)
	case len(data) > limit:
		return "", "", fmt.Errorf("the secret file %q is larger than 16 KiB; it must hold the secret alone", path)
	}
	text = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	return text, fmt.Sprintf("the secret file %q", path), nil
}

// Redactor takes secrets out of text that an engine wrote. The zero value knows none. Like a Text it shows none to what prints it.
type Redactor struct{ words *[]string }

// Knows reports whether there is a secret to take out.
func (r Redactor) Knows() bool { return r.words != nil && len(*r.words) > 0 }

// Format prints that there is something, and not what.
func (Redactor) Format(w fmt.State, _ rune) { fmt.Fprint(w, redact.Word) }

// NewRedactor knows each secret as it is and in the forms in which an engine might print it.
func NewRedactor(secrets ...Text) Redactor {
	var words []string
	for _, s := range secrets {
		text := s.Reveal()
		quoted, _ := json.Marshal(text) // a string always has a form in JSON
		words = append(
			words, text, tail.Clean(text), string(quoted[1:len(quoted)-1]), url.QueryEscape(text), url.PathEscape(text),
			// Without padding they are found in a text with padding, too.
			base64.RawStdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)),
		)
	}
	slices.Sort(words)
	words = slices.DeleteFunc(slices.Compact(words), func(s string) bool { return s == "" })
	return Redactor{&words}
}

// Text hides every byte that belongs to a secret, also where two of them overlap or touch.
func (r Redactor) Text(s string) string {
	if !r.Knows() {
		return s
	}
	hidden := make([]bool, len(s))
	found := false
	for _, word := range *r.words {
		for from := 0; ; from++ {
			i := strings.Index(s[from:], word)
			if i < 0 {
				break
			}
			found = true
			from += i
			for j := range len(word) {
				hidden[from+j] = true
			}
		}
	}
	if !found {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		switch {
		case !hidden[i]:
			b.WriteByte(s[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString(redact.Word)
		}
	}
	return b.String()
}

// Lines is Text for each of some lines.
func (r Redactor) Lines(lines []string) []string {
	if !r.Knows() {
		return lines
	}
	clean := make([]string, len(lines))
	for i, line := range lines {
		clean[i] = r.Text(line)
	}
	return clean
}
