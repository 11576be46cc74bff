// Package modelfile reads Ollama's Modelfiles by Ollama's rules. The package importer calls it, which knows what they mean.
//
// It asks no Ollama, and reads no file: the text is its caller's.
package modelfile

import (
	"fmt"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/redact"
)

// Instruction is one of a Modelfile's.
type Instruction struct {
	Line  int    // where it begins
	Name  string // in lower case
	Value string // without its quotes
}

// instructionNames are those that Ollama knows.
var instructionNames = map[string]bool{
	"from": true, "parameter": true, "template": true, "system": true, "adapter": true, "license": true, "message": true,
	"renderer": true, "parser": true, "requires": true, "draft": true,
}

// Read reads a Modelfile as Ollama does: one instruction a line, names in either case, comments in lines of their own,
// and text in quotes or in three of them, over several lines.
func Read(text string) ([]Instruction, error) {
	text = strings.TrimPrefix(text, "\uFEFF")
	var all []Instruction
	number := 0
	for text != "" {
		line, rest, _ := strings.Cut(text, "\n")
		number++
		text = rest
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value := CutWord(line)
		name = strings.ToLower(name)
		if !instructionNames[name] {
			return nil, fmt.Errorf("line %d: %q is no instruction of a Modelfile", number, redact.Short(name))
		}
		of := Instruction{Line: number, Name: name}
		before := ""
		if name == "message" || name == "parameter" { // the quotes are those of the second word
			before, value = CutWord(value)
			before += " "
		}
		value, read, err := readValue(value, text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		number += strings.Count(text[:read], "\n")
		text = text[read:]
		of.Value = before + value
		all = append(all, of)
	}
	return all, nil
}

// CutWord cuts the first word off.
func CutWord(text string) (word, rest string) {
	i := strings.IndexAny(text, " \t")
	if i < 0 {
		return text, ""
	}
	return text[:i], strings.TrimLeft(text[i:], " \t")
}

// readValue reads a value that begins in a line and may end in following ones, and says how much of those it took. Quotes are
// closed at the end of a line alone: others inside of them need no care.
func readValue(value, following string) (text string, read int, err error) {
	quote := `"`
	if strings.HasPrefix(value, `"""`) {
		quote = `"""`
	}
	if !strings.HasPrefix(value, quote) {
		return value, 0, nil
	}
	if first := strings.TrimSpace(value); len(first) >= 2*len(quote) && strings.HasSuffix(first, quote) {
		return first[len(quote) : len(first)-len(quote)], 0, nil
	}
	for line := range strings.Lines(following) {
		end := read + len(strings.TrimRight(line, " \t\r\n"))
		read += len(line)
		if strings.HasSuffix(following[:end], quote) {
			return value[len(quote):] + "\n" + following[:end-len(quote)], read, nil
		}
	}
	return "", 0, fmt.Errorf("the quotes %s are not closed", quote)
}
