// Package lazyregexp has regular expressions that are compiled when they are first used, as the package of that name
// within Go's own library has them: a program that starts for one answer, such as "status", shall not pay for those of
// all others, which took 3 of 17 ms. It owns nothing else, and never reads or writes anything. Variables of any package
// here may be such expressions; what a call makes for itself needs none.
package lazyregexp

import (
	"os"
	"regexp"
	"strings"
	"sync"
)

// Regexp is an expression that is compiled at its first use. Its methods are those of package regexp, and safe for
// concurrent use. The zero value panics.
type Regexp struct {
	compiled func() *regexp.Regexp
}

// New is an expression of package regexp; a wrong one panics, at its first use. In tests that is at once.
func New(expression string) *Regexp {
	r := &Regexp{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })}
	if strings.HasSuffix(os.Args[0], ".test") {
		r.Compiled()
	}
	return r
}

// Compiled is the expression for those who know package regexp alone.
func (r *Regexp) Compiled() *regexp.Regexp { return r.compiled() }

// MatchString is as in package regexp.
func (r *Regexp) MatchString(s string) bool { return r.compiled().MatchString(s) }

// FindAllString is as in package regexp.
func (r *Regexp) FindAllString(s string, n int) []string { return r.compiled().FindAllString(s, n) }

// FindAllStringSubmatch is as in package regexp.
func (r *Regexp) FindAllStringSubmatch(s string, n int) [][]string {
	return r.compiled().FindAllStringSubmatch(s, n)
}

// FindString is as in package regexp.
func (r *Regexp) FindString(s string) string { return r.compiled().FindString(s) }

// FindStringSubmatch is as in package regexp.
func (r *Regexp) FindStringSubmatch(s string) []string { return r.compiled().FindStringSubmatch(s) }

// Match is as in package regexp.
func (r *Regexp) Match(b []byte) bool { return r.compiled().Match(b) }

// ReplaceAllLiteralString is as in package regexp.
func (r *Regexp) ReplaceAllLiteralString(s, replacement string) string {
	return r.compiled().ReplaceAllLiteralString(s, replacement)
}

// ReplaceAllString is as in package regexp.
func (r *Regexp) ReplaceAllString(s, replacement string) string {
	return r.compiled().ReplaceAllString(s, replacement)
}

// Split is as in package regexp.
func (r *Regexp) Split(s string, n int) []string { return r.compiled().Split(s, n) }

// String is the expression.
func (r *Regexp) String() string { return r.compiled().String() }

// ReplaceAllStringFunc is as in package regexp.
func (r *Regexp) ReplaceAllStringFunc(s string, replace func(string) string) string {
	return r.compiled().ReplaceAllStringFunc(s, replace)
}

// ReplaceAll is as in package regexp.
func (r *Regexp) ReplaceAll(b, replacement []byte) []byte {
	return r.compiled().ReplaceAll(b, replacement)
}

// FindAllSubmatch is as in package regexp.
func (r *Regexp) FindAllSubmatch(b []byte, n int) [][][]byte {
	return r.compiled().FindAllSubmatch(b, n)
}

// FindSubmatch is as in package regexp.
func (r *Regexp) FindSubmatch(b []byte) [][]byte { return r.compiled().FindSubmatch(b) }
