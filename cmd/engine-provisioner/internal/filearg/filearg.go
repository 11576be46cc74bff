// Package filearg has how a pools file is named on a command line.
package filearg

import (
	"fmt"
	"slices"
)

// Stdin is what stands for stdin.
const Stdin = "-"

// Of is what a path names: stdin, whatever it is called, since paths in such a file are not those of /dev; else itself.
func Of(path string) string {
	if slices.Contains([]string{"/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}, path) {
		return Stdin
	}
	return path
}

// Once is the value of a flag that may be given once: of two files, the second would be taken for both. It satisfies pflag.Value.
type Once string

// Type names it in a help.
func (v *Once) Type() string { return "string" }

func (v *Once) String() string { return string(*v) }

// Set takes a file, or fails where another was given.
func (v *Once) Set(path string) error {
	path = Of(path)
	if *v != "" && string(*v) != path { // completion reads the same flags twice
		return fmt.Errorf("%q was given before; one file at a time", string(*v))
	}
	*v = Once(path)
	return nil
}
