//go:build !linux

package enginetest

import (
	"errors"
	"syscall"
)

func closeInherited() {}

func openFiles() map[string]string { return nil }

func mapShm(string, int) ([]byte, error) { return nil, errors.ErrUnsupported }

func wipeEnviron() error { return errors.ErrUnsupported }

func rename(string) error { return errors.ErrUnsupported }

func bindToParent(*syscall.SysProcAttr) {}
