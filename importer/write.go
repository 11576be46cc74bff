package importer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"mvdan.cc/sh/v3/syntax"
	"sigs.k8s.io/yaml"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// keyOrder is the order of keys in a file that is written.
var keyOrder = []string{
	"replicas", "host", "expose", "port", "model", "flags", "env", "api_key", "gpu", "devices", "provisioning", "custom",
	"ready", "restart", "stop",
}

// YAML is the file's text. Reading it back gives the same pools.
func (f *File) YAML() ([]byte, error) {
	var b strings.Builder
	for _, note := range f.notes {
		fmt.Fprintf(&b, "# %s\n", comment(note))
	}
	b.WriteString("pools:\n")
	for _, p := range f.pools {
		for _, note := range p.Notes {
			fmt.Fprintf(&b, "  # %s\n", comment(note))
		}
		id, err := yaml.Marshal(p.ID) // "yes" and "123" are names, too
		if err != nil {
			return nil, fmt.Errorf("cannot write \"id\": %w", err)
		}
		fmt.Fprintf(&b, "  - id: %s    engine: %s\n", id, p.Engine)
		for _, key := range keyOrder {
			k, ok := p.Keys[key]
			if !ok {
				continue
			}
			if k.Note != "" {
				fmt.Fprintf(&b, "    # %s\n", comment(k.Note))
			}
			if text, ok := folded(key, k.Value); ok {
				b.WriteString(text)
				continue
			}
			text, err := marshal(key, k.Value)
			if err != nil {
				return nil, fmt.Errorf("cannot write %q: %w", key, err)
			}
			for line := range strings.Lines(text) {
				b.WriteString("    " + line)
			}
		}
	}
	return []byte(b.String()), nil
}

// marshal writes a key. What a terminal would not show as it is stands there by its number, which quoted text alone can have.
func marshal(key string, value any) (string, error) {
	unseen := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	text, err := yaml.Marshal(map[string]any{key: value})
	if err == nil && !strings.ContainsFunc(string(text), unseen) {
		return string(text), nil
	}
	var plain strings.Builder
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range plain.String() {
		switch {
		case !unseen(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, "\\U%08x", r)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return key + ": " + b.String(), nil
}

// maxLine is where a long line of flags is folded.
const maxLine = 110

// folded is a list of words as one text of a shell, folded between flags as people do; it is not ok for other values, and
// for words that a line cannot hold.
func folded(key string, value any) (string, bool) {
	words, ok := value.([]string)
	if !ok || key != "flags" {
		return "", false
	}
	var lines []string
	line := ""
	for _, word := range words {
		quoted, err := word, error(nil)
		if !plainWord.MatchString(word) {
			quoted, err = syntax.Quote(word, syntax.LangPOSIX)
		}
		if err != nil || strings.ContainsFunc(word, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
			return "", false
		}
		switch {
		case line == "":
			line = quoted
		case len(line)+len(quoted) >= maxLine && strings.HasPrefix(word, "-"):
			lines, line = append(lines, line), quoted
		default:
			line += " " + quoted
		}
	}
	lines = append(lines, line)
	if len(lines) == 1 && plainText.MatchString(line) {
		return "    " + key + ": " + line + "\n", true
	}
	return "    " + key + ": >-\n      " + strings.Join(lines, "\n      ") + "\n", true
}

// plainWord is what a shell reads as it stands.
var plainWord = lazyregexp.New(`^[A-Za-z0-9_./:@%+=,-]+$`)

// plainText is what YAML reads as the same text without quotes: it begins as a flag with a name, and has nothing that YAML
// has a meaning for.
var plainText = lazyregexp.New(`^--?[A-Za-z][A-Za-z0-9 ./_@%+=,-]*$`)

// comment is text that fits behind a "#". What has the shape of a secret is hidden, whoever wrote the text.
func comment(text string) string {
	return strings.Join(strings.Fields(tail.Clean(redact.Shapes(text))), " ")
}

// Notes are the comments of the file, for people, each with its pool's name before it.
func (f *File) Notes() []string {
	var all []string
	for _, note := range f.notes {
		all = append(all, comment(note))
	}
	for _, p := range f.pools {
		for _, note := range p.Notes {
			all = append(all, p.ID+": "+comment(note))
		}
		for _, key := range keyOrder {
			if note := p.Keys[key].Note; note != "" {
				all = append(all, p.ID+": "+key+": "+comment(note))
			}
		}
	}
	return all
}
