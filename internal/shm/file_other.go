//go:build !linux

package shm

import "time"

// Only Linux has /dev/shm.

const early = 0

func identify(string) (file, bool)              { return file{}, false }
func birth(string) time.Time                    { return time.Time{} }
func madeSince(string, time.Time) bool          { return false }
func opened(int, map[file]string) (none []file) { return nil }
