//go:build unix && !linux

package logcap

import (
	"errors"
	"os"
)

var cuts = []func(f *os.File, first, end int64) error{copyTruncate}

// FirstData is where the file's data begins. A cut leaves no hole here.
func FirstData(*os.File) int64 { return 0 }

// Space is not known here.
func Space(string) (free, total uint64, err error) { return 0, 0, errors.ErrUnsupported }
