//go:build linux

package main

import (
	"fmt"
	"slices"
	"testing"
)

// harness lets a program use what package enginetest offers to tests. It is a testing.TB in which only what is used
// there works.
type harness struct {
	testing.TB
	undo []func()
}

func (h *harness) Helper()          {}
func (h *harness) Cleanup(f func()) { h.undo = append(h.undo, f) }

// failed is what a failing harness panics with.
type failed struct{ error }

func (h *harness) Fatalf(format string, args ...any) { panic(failed{fmt.Errorf(format, args...)}) }

// try does what may fail.
func (h *harness) try(do func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(failed)
			if !ok {
				panic(r)
			}
			err = f.error
		}
	}()
	do()
	return nil
}

func (h *harness) cleanUp() {
	for _, undo := range slices.Backward(h.undo) {
		undo()
	}
	h.undo = nil
}
