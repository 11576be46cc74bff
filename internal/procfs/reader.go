package procfs

// Reader reads /proc again and again and leaves no garbage: its buffers grow to the largest file and are used again. The
// zero value is ready. It is not safe for concurrent use.
type Reader struct {
	path []byte // with a zero at its end
	data []byte // of a file of a process
	list []byte // of the folder
}

// Stat reads the stat of one process into s, which may be that of an earlier time.
func (r *Reader) Stat(pid int, s *Stat) error {
	data, err := r.read(pid, "stat", true)
	if err != nil {
		return err
	}
	return s.parse(data)
}
