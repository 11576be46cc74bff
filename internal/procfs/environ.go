package procfs

import (
	"bytes"
	"iter"
	"strings"
	"time"
)

// execPatience is how long an exec is waited for. One takes a millisecond, but the file can lie on a slow disk.
const execPatience = 2 * time.Second

// Environ is what the process was started with. It is valid until the reader is used again.
//
// In the middle of an exec a process has no environment: the old one is gone and the new one is not there yet. The end of
// that is waited for, else a worker that is just being started would be nobody's.
func (r *Reader) Environ(pid int) ([]byte, error) {
	data, err := r.read(pid, "environ", false)
	if err != nil || len(data) > 0 {
		return data, err
	}
	var s Stat
	for deadline := time.Now().Add(execPatience); err == nil && len(data) == 0 && time.Now().Before(deadline); {
		gone := r.Stat(pid, &s)
		if gone != nil || s.VirtBytes == 0 {
			return nil, gone
		}
		data, err = r.read(pid, "environ", false)
		if s.EnvEnd != 0 {
			break // the exec was over before the environment was read again
		}
		if len(data) == 0 {
			time.Sleep(200 * time.Microsecond)
		}
	}
	return data, err
}

// HasEnv reports whether the process was started with the variable entry, "NAME=value", in its environment. It is
// false where the environment cannot be read, as for other users' processes.
func HasEnv(pid int, entry string) bool {
	var r Reader
	data, err := r.Environ(pid)
	if err != nil {
		return false
	}
	name, value, _ := strings.Cut(entry, "=")
	for each := range Values(data, name) {
		if string(each) == value {
			return true
		}
	}
	return false
}

// Env is a variable with which the process was started; false where it has none or it cannot be read.
func Env(pid int, name string) (value string, ok bool) {
	var r Reader
	data, err := r.Environ(pid)
	if err != nil {
		return "", false
	}
	for each := range Values(data, name) {
		return string(each), true
	}
	return "", false
}

// Values are those of a variable in an environment as [Reader.Environ] gives it, which can have it more than once.
func Values(environ []byte, name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(environ) > 0 {
			entry, rest, _ := bytes.Cut(environ, []byte{0})
			if len(entry) > len(name) && entry[len(name)] == '=' && string(entry[:len(name)]) == name && !yield(entry[len(name)+1:]) {
				return
			}
			environ = rest
		}
	}
}
