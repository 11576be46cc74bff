// Package shell reads a shell's text as far as it can be understood without running it: its simple commands, and the variables
// that it sets itself. The package importer calls it. It runs nothing, and looks at no file and no variable of its own process.
package shell

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/llama-orch/engine-provisioner/internal/redact"
)

// Command is one command of a shell's text: its words, and the variables that it sees.
type Command struct {
	Words []string
	Env   map[string]string
	Dir   string   // where it runs, as far as "cd" tells; "" for where the shell was started
	Notes []string // about how it stood there
}

// Text is what was read.
type Text struct {
	Commands []Command // in their order
	Maybe    []string  // notes on what is set only where a condition holds
}

// reader is a text that is read.
type reader struct {
	Text

	text     string
	vars     map[string]string
	lists    map[string][]string
	exported map[string]bool
	dir      string
	unknown  []string // what stands for a value that only a run would tell
	made     int      // bytes of all words
}

// maxMade bounds what variables can expand to.
const maxMade = 1 << 20

// The parser calls itself for each bracket and keyword that is open. 512 KiB of "(" took 1 GiB of stack, which ends a
// program; within these limits it is a tenth of that.
const (
	maxShell    = 128 << 10
	maxBrackets = 1000
)

var errTooDeep = errors.New("it is larger than 128 KiB, or nested deeper than 1000 brackets; import its command line alone")

// openBrackets counts how many brackets are open at once, those in text included.
func openBrackets(text string) int {
	open, most := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(', '{', '[':
			open++
			most = max(most, open)
		case ')', '}', ']':
			open = max(0, open-1)
		}
	}
	return most
}

var errTooMuch = errors.New("its variables expand to more than 1 MiB")

// Read reads a shell's text, of bash's grammar. The error says why it cannot be understood.
func Read(text string) (Text, error) {
	if len(text) > maxShell || openBrackets(text) > maxBrackets {
		return Text{}, errTooDeep
	}
	s := &reader{text: text, vars: map[string]string{}, lists: map[string][]string{}, exported: map[string]bool{}}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		return Text{}, fmt.Errorf("cannot read it as a shell does: %w", err)
	}
	s.statements(file.Stmts, "")
	if s.made > maxMade {
		return Text{}, errTooMuch
	}
	return s.Text, nil
}

// statements reads commands; where says inside of what they stand.
func (s *reader) statements(stmts []*syntax.Stmt, where string) {
	for _, stmt := range stmts {
		before := len(s.Commands)
		s.command(stmt.Cmd, where)
		for _, r := range stmt.Redirs {
			for i := before; i < len(s.Commands); i++ {
				s.Commands[i].Notes = append(s.Commands[i].Notes, fmt.Sprintf("left out: the redirection %s: the provisioner keeps the log", redact.Short(s.source(r))))
			}
		}
	}
}

func (s *reader) command(cmd syntax.Command, where string) {
	switch c := cmd.(type) {
	case *syntax.CallExpr:
		s.call(c, where)
	case *syntax.DeclClause:
		if c.Variant.Value != "export" && c.Variant.Value != "declare" && c.Variant.Value != "readonly" && c.Variant.Value != "local" {
			return
		}
		for _, a := range c.Args {
			if a.Name == nil {
				continue
			}
			if !a.Naked {
				s.assign(a)
			}
			s.exported[a.Name.Value] = s.exported[a.Name.Value] || c.Variant.Value == "export"
		}
	case *syntax.BinaryCmd:
		s.statements([]*syntax.Stmt{c.X, c.Y}, where)
	case *syntax.Block:
		s.statements(c.Stmts, where)
	case *syntax.Subshell:
		s.statements(c.Stmts, where)
	case *syntax.TimeClause:
		if c.Stmt != nil {
			s.statements([]*syntax.Stmt{c.Stmt}, where)
		}
	case *syntax.IfClause:
		for ; c != nil; c = c.Else {
			s.statements(c.Cond, where)
			s.statements(c.Then, "an \"if\"")
		}
	case *syntax.WhileClause:
		s.statements(c.Do, "a loop")
	case *syntax.ForClause:
		s.statements(c.Do, "a loop")
	case *syntax.CaseClause:
		for _, item := range c.Items {
			s.statements(item.Stmts, "a \"case\"")
		}
	case *syntax.FuncDecl:
		s.statements([]*syntax.Stmt{c.Body}, "a function")
	}
}

func (s *reader) call(c *syntax.CallExpr, where string) {
	if len(c.Args) == 0 {
		for _, a := range c.Assigns {
			s.assign(a)
			if where != "" {
				s.Maybe = append(s.Maybe, fmt.Sprintf("decide: %s stood inside %s, which may not always run", redact.Short(s.source(a)), where))
			}
		}
		return
	}
	unknown := len(s.unknown)
	cmd := Command{Env: map[string]string{}, Dir: s.dir}
	for name := range s.exported {
		if value, ok := s.vars[name]; ok {
			cmd.Env[name] = value
		}
	}
	for _, a := range c.Assigns {
		if a.Value != nil {
			cmd.Env[a.Name.Value] = s.single(a.Value)
		}
	}
	for _, w := range c.Args {
		cmd.Words = append(cmd.Words, s.words(w)...)
	}
	if len(cmd.Words) == 0 {
		return
	}
	if cmd.Words[0] == "cd" && len(cmd.Words) > 1 && len(s.unknown) == unknown {
		s.dir = cmd.Words[1]
		if !filepath.IsAbs(s.dir) {
			s.dir = filepath.Join(cmd.Dir, s.dir)
		}
		return // what follows has it
	}
	for _, u := range slices.Compact(slices.Clone(s.unknown[unknown:])) {
		cmd.Notes = append(cmd.Notes, Unknown(u))
	}
	if where != "" {
		cmd.Notes = append(cmd.Notes, "decide: it stood inside "+where+", which may not always run, or more than once")
	}
	s.Commands = append(s.Commands, cmd)
}

// Unknown is what to say of a variable, or of the output of a command, whose value is not in the file.
func Unknown(source string) string {
	return fmt.Sprintf("decide: %s has no value in what was imported; write it", redact.Short(source))
}
