package procfs

import (
	"bytes"
	"os"
	"time"
)

// execPatience is how long an exec is waited for. One takes a millisecond, but the file can lie on a slow disk.
const execPatience = 2 * time.Second

// environ is what the process was started with.
//
// In the middle of an exec a process has no environment: the old one is gone and the new one is not there yet. The end of
// that is waited for, else a worker that is just being started would be nobody's.
func environ(pid int) ([]byte, error) {
	data, err := os.ReadFile(path(pid, "environ"))
	for deadline := time.Now().Add(execPatience); err == nil && len(data) == 0 && time.Now().Before(deadline); {
		s, gone := ReadStat(pid)
		if gone != nil || s.VirtBytes == 0 {
			return nil, gone
		}
		data, err = os.ReadFile(path(pid, "environ"))
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
	data, err := environ(pid)
	if err != nil {
		return false
	}
	for each := range bytes.SplitSeq(data, []byte{0}) {
		if string(each) == entry { // does not allocate: this is asked of all processes of the machine
			return true
		}
	}
	return false
}

// Env is a variable with which the process was started; false where it has none or it cannot be read.
func Env(pid int, name string) (value string, ok bool) {
	data, err := environ(pid)
	if err != nil {
		return "", false
	}
	for each := range bytes.SplitSeq(data, []byte{0}) {
		if value, ok := bytes.CutPrefix(each, []byte(name+"=")); ok {
			return string(value), true
		}
	}
	return "", false
}
