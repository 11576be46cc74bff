//go:build !linux

package procfs

import (
	"errors"
	"net/netip"
)

func diagListeners(netip.Addr, uint16) ([]uint64, error) { return nil, errors.ErrUnsupported }
