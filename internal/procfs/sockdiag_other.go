//go:build !linux

package procfs

import "errors"

func diagListeners() ([]socket, error) { return nil, errors.ErrUnsupported }

func diagConnected() (map[uint16]int, error) { return nil, errors.ErrUnsupported }

func diagUsed() (map[uint16]bool, error) { return nil, errors.ErrUnsupported }
