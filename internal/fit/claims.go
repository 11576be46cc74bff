package fit

import (
	"os"
	"syscall"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/report"
)

// Claims are what others have, or are going to have, of memory that counts as free.
type Claims struct {
	Taken  map[string]uint64 // by GPU, "" for main memory: what launches that are loading are still going to take
	Mapped map[File]uint64   // files in main memory; the kernel calls their pages available, whoever maps them
}

// File tells a file by what it is on its disk, or by its path where that is unknown.
type File struct {
	path     string
	dev, ino uint64
}

// FileOf is the file at a path.
func FileOf(path string) File {
	info, err := os.Stat(path)
	if err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return File{dev: uint64(st.Dev), ino: st.Ino} //nolint:unconvert // it is another type on other systems
		}
	}
	return File{path: path}
}

// Other is a launch that has not ended.
type Other struct {
	Memory  []report.MemoryNeed // as it was estimated
	Model   string              // the path of its model
	Loading bool                // it is not ready yet
	PID     int                 // of its process
	GPUs    int                 // how many it has
}

// Claim is what the others have. held asks for the GPU memory of each process; it is called once, and only where it matters.
func Claim(others []Other, held func() map[int]uint64) Claims {
	c := Claims{map[string]uint64{}, map[File]uint64{}}
	var memory map[int]uint64
	files := map[string]File{} // replicas of a pool have one model
	for _, o := range others {
		for _, m := range o.Memory {
			if m.Mapped > 0 {
				file, known := files[o.Model]
				if !known {
					file = FileOf(o.Model)
					files[o.Model] = file
				}
				c.Mapped[file] = max(c.Mapped[file], m.Mapped)
			}
			if !o.Loading {
				continue
			}
			var has uint64
			if m.GPU == "" {
				m.Need -= min(m.Need, m.Mapped)
				if s, err := procfs.ReadStat(o.PID); err == nil {
					has = uint64(s.RSS())
					has -= min(has, m.Mapped) // the file is read first
				}
			} else {
				if memory == nil {
					memory = held()
				}
				has = memory[o.PID] / uint64(max(1, o.GPUs)) // the driver tells the sum over all GPUs
			}
			c.Taken[m.GPU] += m.Need - min(m.Need, has)
		}
	}
	return c
}
