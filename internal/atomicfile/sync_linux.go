package atomicfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// SyncTree makes everything below dir safe from a power cut, as far as it is on the file system of dir.
func SyncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
