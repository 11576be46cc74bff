package engine

import (
	"regexp"
	"strings"
)

// AnyOf is a pattern that matches where one of patterns does. Each is an expression of package regexp that is right; a wrong
// one panics.
func AnyOf(patterns ...string) *regexp.Regexp { return regexp.MustCompile(strings.Join(patterns, "|")) }
