package logcap

import (
	"os"

	"golang.org/x/sys/unix"
)

// cuts are the ways to cut, the best first: ext4 and xfs can take blocks out of a file, tmpfs, btrfs and others can
// free them and leave a hole, and NFS can do neither.
var cuts = []func(f *os.File, first, end int64) error{collapse, punch, copyTruncate}

// collapse takes the blocks before end out of the file.
func collapse(f *os.File, _, end int64) error {
	block, err := blockSize(f)
	if err != nil || end < block {
		return err
	}
	// The file system holds the writer back until everything after the cut is on the disk; so it is put there before.
	_ = unix.SyncFileRange(int(f.Fd()), end, 0,
		unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, end/block*block)
}

// punch frees the blocks before end. The file keeps its size.
func punch(f *os.File, first, end int64) error {
	block, err := blockSize(f)
	if err != nil || end/block*block <= first {
		return err
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, first, end/block*block-first)
}

func blockSize(f *os.File) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return 0, err
	}
	return max(fs.Bsize, Block), nil
}

// FirstData is where the file's data begins: behind the hole at its beginning, when there is one.
func FirstData(f *os.File) int64 {
	// It moves the file's offset, which is not in use: everything here reads and writes at a place.
	first, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	if err != nil {
		return 0 // the file is empty, or its file system knows no holes
	}
	return first
}

// Space is how many bytes of path's file system this user can still take, and how many it has.
func Space(path string) (free, total uint64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, 0, err
	}
	return fs.Bavail * uint64(fs.Bsize), fs.Blocks * uint64(fs.Bsize), nil
}
