package shm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// dir is where POSIX shared memory has its names.
const dir = "/dev/shm"

// file tells one file from all others of this boot. A name does not: it can be used again, and be another file in another
// mount namespace.
type file struct {
	major, minor uint32
	inode        uint64
}

// mapping is one line of a maps file.
type mapping struct {
	file
	shared, writable bool
	path             string // as the kernel shows it; "" for what has none
}

// parseMapping reads a line such as "7f0c4a000000-7f0c4a001000 rw-s 00000000 00:1b 5        /dev/shm/name": five fields, then
// a path, which may hold spaces and so whatever follows them. It is false for what is no file.
func parseMapping(line string) (m mapping, ok bool) {
	rest := strings.TrimSuffix(line, "\n")
	var fields [5]string
	for i := range fields {
		fields[i], rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
	}
	access, device := fields[1], fields[3]
	if len(access) != 4 {
		return mapping{}, false
	}
	major, minor, _ := strings.Cut(device, ":")
	high, err1 := strconv.ParseUint(major, 16, 32)
	low, err2 := strconv.ParseUint(minor, 16, 32)
	inode, err3 := strconv.ParseUint(fields[4], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || inode == 0 {
		return mapping{}, false
	}
	return mapping{
		file{uint32(high), uint32(low), inode}, access[3] == 's', access[1] == 'w', strings.TrimLeft(rest, " "),
	}, true
}

func mappings(r io.Reader, each func(mapping)) {
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if m, ok := parseMapping(line); ok {
			each(m)
		}
		if err != nil {
			return
		}
	}
}

// parseMade gives the objects that a process with these maps may have made: it can write to them, others see what it writes,
// and they lie directly below /dev/shm, where shm_open and sem_open put them. Unnamed are semaphores whose name is gone.
// Left out are names that are unlinked already, and those with a newline, which the file does not tell from a backslash
// and digits.
func parseMade(r io.Reader) (objects map[file]string, unnamed []file) {
	objects = map[file]string{}
	mappings(r, func(m mapping) {
		if !m.shared || !m.writable {
			return
		}
		path, gone := strings.CutSuffix(m.path, " (deleted)")
		switch {
		case filepath.Dir(path) != dir || filepath.Clean(path) != path || strings.Contains(path, `\012`):
		case gone && strings.HasPrefix(filepath.Base(path), "sem.") && !slices.Contains(unnamed, m.file):
			unnamed = append(unnamed, m.file)
		case !gone:
			objects[m.file] = path
		}
	})
	return objects, unnamed
}

func openMaps(pid int) (*os.File, error) { return os.Open(fmt.Sprintf("/proc/%d/maps", pid)) }

// made are the objects that the process may have made, by their paths.
func made(pid int) map[file]string {
	f, err := openMaps(pid)
	if err != nil {
		return nil
	}
	defer f.Close()
	objects, unnamed := parseMade(f)
	if len(unnamed) == 0 {
		return objects
	}
	// The sem_open of glibc maps a file of a random name, links it to the name that was asked for, and unlinks the first:
	// the process that made a semaphore shows a name that is gone.
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if id, ok := identify(path); ok && slices.Contains(unnamed, id) {
			objects[id] = path
		}
	}
	return objects
}

// uses reports which of the files a process has mapped, in whatever way and under whatever name.
func uses(pid int, files map[file]string) (used []file) {
	f, err := openMaps(pid)
	if err != nil {
		return nil
	}
	defer f.Close()
	mappings(f, func(m mapping) {
		if _, ok := files[m.file]; ok {
			used = append(used, m.file)
		}
	})
	return used
}
