// Package config reads a pools file and checks what stands in it: where each key stands, what values there are beside plain text
// and numbers, and which blocks cannot be so.
//
// The configuration's types are those of users, and they lie with the launch; it calls this package with the blocks of them, as
// plain values. Nothing of the host is looked at but the file itself. The engine judges its own part.
package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Line    int // 1-based; 0 where there is no file
	Column  int
	Key     string
	Message string
}

// Origin is where a configuration was read. It gives a problem its line, also long after the file was read. nil is that of a
// configuration made in Go.
type Origin struct {
	File      string
	Dir       string
	Prefix    string // the part of the file that this is about, such as "pools[0]"; "" for all of it
	Positions map[string]strictyaml.Position
	Secrets   []string // the variables from which any part of the file reads secrets
}

// Inside is the origin of a part.
func (o *Origin) Inside(prefix string) *Origin {
	if o == nil {
		return nil
	}
	in := *o
	in.Prefix = prefix
	return &in
}

// path is a key relative to the origin as it counts from the top of the file.
func (o *Origin) path(key string) string {
	if o.Prefix != "" && key != "" {
		return o.Prefix + "." + key
	}
	return o.Prefix + key
}

// at is where a key stands, or the nearest block around it that is there.
func (o *Origin) at(key string) strictyaml.Position {
	for {
		if p, ok := o.Positions[key]; ok || key == "" {
			return p
		}
		key = above(key)
	}
}

// above is the key of the block around a key.
func above(key string) string { return key[:max(0, strings.LastIndexAny(key, ".["))] }

// Locate completes a problem whose key is relative to the origin.
func (o *Origin) Locate(p Problem) Problem {
	if o == nil || p.Line > 0 {
		return p
	}
	p.Key = o.path(p.Key)
	at := o.at(p.Key)
	p.Line, p.Column = at.Line, at.Column
	return p
}

// maxProblems is more than anyone reads at once; a file of a wrong kind can hold a hundred thousand.
const maxProblems = 100

// Checker collects the problems of a configuration. It is not safe for concurrent use.
type Checker struct {
	origin   *Origin
	problems []Problem
	reported map[string]bool // keys that have a problem already: one is enough to begin with
	skip     map[string]bool // keys that could not be read: nothing can be said about what they hold
}

// New makes a checker of what was read at o.
func New(o *Origin) *Checker {
	return &Checker{origin: o, reported: map[string]bool{}, skip: map[string]bool{}}
}

// Report adds a problem, unless the key has one already, or could not be read.
func (k *Checker) Report(key, format string, args ...any) {
	if k.reported[key] || k.Skipped(key) {
		return
	}
	k.reported[key] = true
	k.problems = append(k.problems, k.origin.Locate(Problem{Key: key, Message: fmt.Sprintf(format, args...)}))
}

// wrong is Report of a text that says what is wrong; "" is nothing.
func (k *Checker) wrong(key, text string) {
	if text != "" {
		k.Report(key, "%s", text)
	}
}

// Skipped tells whether a key, or a block around it, could not be read.
func (k *Checker) Skipped(key string) bool {
	for {
		if k.skip[key] {
			return true
		}
		if key == "" {
			return false
		}
		key = above(key)
	}
}

// UnreadIn tells whether something inside key could not be read.
func (k *Checker) UnreadIn(key string) bool {
	for skipped := range k.skip {
		if strings.HasPrefix(skipped, key) {
			return true
		}
	}
	return k.Skipped(key)
}

// Written tells whether the file holds the key, as opposed to a zero value for want of it.
func (k *Checker) Written(key string) bool {
	if k.origin == nil {
		return false
	}
	_, ok := k.origin.Positions[k.origin.path(key)]
	return ok
}

// Reported tells whether one of the keys has a problem.
func (k *Checker) Reported(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return k.reported[key] || k.Skipped(key) })
}

// Problems are all that there are, in the order of the file. Only a very long list is cut.
func (k *Checker) Problems() []Problem {
	slices.SortStableFunc(k.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	if more := len(k.problems) - maxProblems; more > 0 {
		return append(k.problems[:maxProblems:maxProblems], Problem{Message: fmt.Sprintf("and %d more problems", more)})
	}
	return k.problems
}
