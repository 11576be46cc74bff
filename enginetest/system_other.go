//go:build !linux

package enginetest

import "errors"

func closeInherited() {}

func openFiles() map[string]string { return nil }

func mapShm(string, int) ([]byte, error) { return nil, errors.ErrUnsupported }

func wipeEnviron() error { return errors.ErrUnsupported }
