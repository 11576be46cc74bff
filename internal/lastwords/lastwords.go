// Package lastwords finds in an engine's log what went wrong first. What an engine says last is rarely that: llama-server
// ends with "exiting due to model loading error", vLLM with "See root cause above".
//
// Who says why an engine has ended calls it, with the lines of its log. It reads no file, and names no cause.
package lastwords

import (
	"slices"
	"strings"
)

// Block is the last block of errors in a log: those that followed each other without a line in between that shows that
// the engine went on. The zero value is that of a log without errors.
type Block struct {
	// First says what went wrong first, without the mark of its level; "" when no line is an error. Of a Python
	// exception that others were the cause of, it is the last of that chain, which its program chose to tell.
	First string
	// Lines are all lines of the block as they are in the log, what only points to another line included.
	Lines []string
	// After is how many lines of the log after the block show that the engine went on. An engine that ended of an error
	// has few of them: it says how it shuts down.
	After int
}

// Last finds the last block of errors in the lines of a log. In a log without marks, as llama.cpp's before 2025, the
// words of a line have to tell. Lines must be clean, without the escapes of a terminal.
func Last(lines []string) Block {
	parsed := parse(lines)
	var block Block
	after := 0
	for end := len(parsed); end > 0; {
		if parsed[end-1].level.goesOn() {
			after++
			end--
			continue
		}
		begin := end
		for begin > 0 && !parsed[begin-1].level.goesOn() {
			begin--
		}
		members := parsed[begin:end]
		end = begin
		first := slices.IndexFunc(members, line.wrong)
		if first < 0 {
			continue
		}
		found := newBlock(members[first:], after)
		if block.First == "" || !found.pointing {
			block = found.Block
		}
		if !found.pointing {
			break
		}
	}
	if block.First == "" {
		return Block{}
	}
	return block
}

type found struct {
	Block
	pointing bool // all that it says is that there is an error elsewhere
}

// newBlock is the block of lines that follow each other. An exception says more than the line that announces it.
func newBlock(members []line, after int) found {
	f := found{Block: Block{After: after}, pointing: true}
	rank := 0
	for i, l := range members {
		f.Lines = append(f.Lines, l.raw)
		if !l.wrong() || l.links {
			continue
		}
		this := 1
		switch {
		case l.points:
		case l.exception:
			this = 3
		default:
			this = 2
		}
		f.pointing = f.pointing && l.points
		if this > rank {
			rank, f.First = this, strings.TrimSpace(l.text)
			if l.exception {
				f.First = strings.TrimSpace(lastOfChain(members[i:]))
			}
			if counting.MatchString(f.First) {
				f.First += reason(members[i+1:])
			}
		}
	}
	return f
}

// lastOfChain is what a chain of exceptions, which begins with the first line, ends in.
func lastOfChain(members []line) string {
	last := members[0].text
	linked := false
	for _, l := range members[1:] {
		switch {
		case l.links:
			linked = true
		case l.exception && linked && !l.points:
			last, linked = l.text, false
		case l.exception:
			return last
		}
	}
	return last
}

// reason is what pydantic says below the count of its errors: the first indented text.
func reason(below []line) string {
	for _, l := range below {
		if text := strings.TrimSpace(l.text); text != "" && text != l.text {
			return ": " + text
		}
	}
	return ""
}

// line is one line of a log, read.
type line struct {
	raw, text string // as it is, and without the mark of its level
	level     level
	exception bool // it is the last line of a Python traceback
	links     bool // it joins two tracebacks of one chain
	points    bool // it says that there is an error, and not which
}

func (l line) wrong() bool { return l.level == failure }

type level int

const (
	unmarked level = iota // belongs to what is around it
	debug
	info
	warning
	failure
)

// goesOn reports whether a line of this level shows that the engine went on after an error before it.
func (l level) goesOn() bool { return l == info || l == warning }

func parse(lines []string) []line {
	parsed := make([]line, len(lines))
	marked := false
	inTraceback := false
	for i, raw := range lines {
		l := read(raw)
		switch {
		case strings.Contains(l.text, "Traceback (most recent call last)"):
			inTraceback = true
			l.level, l.points = failure, true
		case inTraceback && l.text != "" && !strings.HasPrefix(l.text, " ") && !strings.HasPrefix(l.text, "\t"):
			inTraceback = false
			l.level, l.exception = failure, true
		case inTraceback:
			l.level = unmarked
		case chained.MatchString(l.text):
			l.links, l.level = true, failure
		case exception.MatchString(l.text) && l.level != warning:
			l.level, l.exception = failure, true
		case l.level == unmarked && fatal.MatchString(l.text):
			l.level = failure
		}
		marked = marked || l.level != unmarked && l.text != raw
		l.points = l.points || l.level == failure && pointer.MatchString(l.text)
		if leaving.MatchString(l.text) && l.level != failure {
			l.level = unmarked // how it shuts down, not how it goes on
		}
		parsed[i] = l
	}
	if marked {
		return parsed
	}
	for i, l := range parsed { // without marks, any other line would be taken for one of the block
		switch {
		case l.level != unmarked || l.text == "" || leaving.MatchString(l.text):
		case wrong.MatchString(l.text):
			parsed[i].level = failure
			parsed[i].points = pointer.MatchString(l.text)
		case !strings.HasPrefix(l.text, " ") && !strings.HasPrefix(l.text, "\t"):
			parsed[i].level = info
		}
	}
	return parsed
}
