package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	statefile "github.com/llama-orch/engine-provisioner/internal/state"
)

// The names beside a file that is being downloaded. They are not the ".incomplete" of huggingface_hub, which takes such a
// file for whole up to its length; ours has holes.
const (
	PartSuffix  = ".part"
	stateSuffix = ".part.json"
)

// state is what is known of a part between runs. It is written after the bytes that it counts.
type state struct {
	Digest Digest  `json:"digest"`
	Size   int64   `json:"size"`
	Ranges []int64 `json:"ranges"` // where each begins
	Done   []int64 `json:"done"`   // bytes of each that are there
}

// part is a file that is not yet whole.
type part struct {
	path   string // of the whole file
	file   *os.File
	state  state
	ranges []*byteRange
}

// byteRange is a piece of the file that one connection brings.
type byteRange struct {
	from, to int64 // to is -1 where the end is not known
	done     atomic.Int64
	whole    chan struct{} // closed when all is there
}

// openPart continues what was left of the same content, where the server can; else it begins anew.
func openPart(path string, digest Digest, src source, minRange int64) (*part, error) {
	p := &part{path: path, state: state{Digest: digest, Size: src.size}, ranges: src.split(minRange)}
	file, length, err := openOwn(path + PartSuffix)
	if err != nil {
		return nil, err
	}
	p.file = file
	if !(src.ranges && p.resume(length)) {
		err = p.file.Truncate(0)
	}
	if err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

// openOwn opens a file that has no other name, or makes it. In a cache that a group shares, somebody may have put a link there,
// or something that is no file: what it is loses this name and nothing else.
func openOwn(path string) (file *os.File, length int64, err error) {
	for range 3 { // whoever shares the cache may be quick
		file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o666)
		if err == nil {
			info, failed := file.Stat()
			if failed != nil {
				file.Close()
				return nil, 0, failed
			}
			if stat, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && stat.Nlink == 1 {
				return file, info.Size(), nil
			}
			file.Close()
		} else if info, failed := os.Lstat(path); failed != nil || info.Mode().IsRegular() {
			return nil, 0, err
		}
		if err = os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, 0, err
		}
	}
	return nil, 0, fmt.Errorf("%q is in the way: it is no file of its own; remove it", path)
}

// resume takes over the state of an earlier run and reports whether there was any.
func (p *part) resume(length int64) bool {
	data, err := statefile.Read(p.path + stateSuffix) // which a fifo in its place does not hold up
	if err != nil {
		return false
	}
	var old state
	now := p.state
	switch {
	case json.Unmarshal(data, &old) != nil,
		old.Digest != now.Digest || old.Size != now.Size,
		len(old.Ranges) == 0 || old.Ranges[0] != 0 || len(old.Ranges) != len(old.Done):
		return false
	}
	var ranges []*byteRange
	for i, from := range old.Ranges {
		r := &byteRange{from: from, to: now.Size, whole: make(chan struct{})}
		if i+1 < len(old.Ranges) {
			r.to = old.Ranges[i+1]
		}
		if old.Done[i] < 0 || r.from >= r.to || old.Done[i] > r.to-r.from || old.Done[i] > 0 && from+old.Done[i] > length {
			return false
		}
		r.done.Store(old.Done[i])
		ranges = append(ranges, r)
	}
	p.ranges = ranges
	return true
}

// done is how many bytes are there.
func (p *part) done() int64 {
	var n int64
	for _, r := range p.ranges {
		n += r.done.Load()
	}
	return n
}

// save notes how far the ranges are. A reader of the file after a kill finds at least these bytes in it.
func (p *part) save() error {
	if p.ranges[0].to < 0 {
		return nil // it cannot be continued
	}
	s := p.state
	for _, r := range p.ranges {
		s.Ranges = append(s.Ranges, r.from)
		s.Done = append(s.Done, r.done.Load())
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return atomicfile.Write(p.path+stateSuffix, data)
}

// commit gives the file its name, on the disk first.
func (p *part) commit() error {
	if err := p.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(p.path+PartSuffix, p.path); err != nil {
		return err
	}
	if err := atomicfile.Remove(p.path + stateSuffix); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(p.path))
}

// discard removes what is there.
func (p *part) discard() {
	_ = os.Remove(p.path + stateSuffix)
	_ = os.Remove(p.path + PartSuffix)
}

func (p *part) close() { p.file.Close() }
