// Package filestamp remembers what files looked like, to tell later whether somebody has changed them.
//
// Whoever keeps facts about files calls it. It never reads them, that is left to its caller: size, time and identity must do.
package filestamp

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Stamp is what a file looked like.
type Stamp struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	ModTime int64  `json:"mtime_ns"`
}

// maxFiles of a folder are looked at: the largest models on the hub have some hundreds.
const maxFiles = 1000

// Of stamps regular files; of a folder, the files that lie directly in it. What is not there is left out.
func Of(paths ...string) []Stamp {
	var stamps []Stamp
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
		case info.Mode().IsRegular():
			stamps = append(stamps, Stamp{path, info.Size(), info.ModTime().UnixNano()})
		case info.IsDir():
			entries, _ := os.ReadDir(path)
			for _, e := range entries[:min(len(entries), maxFiles)] {
				file := filepath.Join(path, e.Name())
				if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() { // those of a hub's cache are links
					stamps = append(stamps, Stamp{file, info.Size(), info.ModTime().UnixNano()})
				}
			}
		}
	}
	return stamps
}

// Changed says of the first file that is another by now how it differs, for people; "" when all are as they were.
func Changed(stamps []Stamp) string {
	for _, was := range stamps {
		info, err := os.Stat(was.Path)
		switch {
		case os.IsNotExist(err):
			return fmt.Sprintf("%q is gone", was.Path)
		case err != nil: // nobody can tell
		case info.Size() != was.Size:
			return fmt.Sprintf("%q had %d bytes and has %d", was.Path, was.Size, info.Size())
		case info.ModTime().UnixNano() != was.ModTime:
			return fmt.Sprintf("%q was written to at %s", was.Path, info.ModTime().Format(time.DateTime))
		}
	}
	return ""
}

// Inode names a file's content holder, with its change time: a file that was replaced or written has another.
func Inode(f *os.File) string {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d.%d", st.Dev, st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
}
