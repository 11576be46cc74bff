// Package fetch downloads large files: resumed after any interruption, in parallel ranges, verified before they get
// their name, and by one process at a time.
//
// Whoever brings engines or models here calls it. It keeps no catalogue: where a file is, what its digest must be and where it is put are its
// caller's.
package fetch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/bytesize"
	"github.com/llama-orch/engine-provisioner/internal/logcap"
)

// File is one file to download. URL, Path and Digest are required.
type File struct {
	URL   string // https, or http to a loopback address
	Token string // sent as a bearer token to the host of URL and to no other
	Path  string // where the file goes
	Lock  string // the lock file that others who download it hold; "" means Path with ".lock"

	Digest  Digest
	Size    int64 // 0: not known before
	MaxSize int64 // larger files are refused; 0 means 1 TiB

	Connections int           // for a large file; 0 means 4
	Stall       time.Duration // how long a connection may bring nothing; 0 means 30 s

	Limits

	// Progress is called about five times a second, and once at the end; nil means never. It must return at once.
	Progress func(Progress)

	minRange   int64         // of a parallel download; 0 means 32 MiB
	minute     time.Duration // the one of MinPerMinute; 0 means a minute
	retryFloor time.Duration // the first wait before a new try; 0 means 250 ms
}

// Limits say how slow a download may be. What came before one ended it is kept, and the next goes on with it.
type Limits struct {
	// MinPerMinute is in bytes. A connection that brings less within a minute is made anew, and the fifth in a row ends the
	// download. 0 means 64 KiB.
	MinPerMinute int64
	// Timeout is for all of the file, without the wait for another process that downloads it. 0 means 24 hours.
	Timeout time.Duration
}

// Progress is how far a download is.
type Progress struct {
	Done    int64   // bytes, those of an earlier run included
	Total   int64   // bytes; 0 where it is not known
	Rate    float64 // bytes a second of late
	Waiting bool    // another process downloads the file; this one waits for it
}

// Remaining is how long the rest takes at the present rate; 0 where that cannot be told.
func (p Progress) Remaining() time.Duration {
	if p.Rate <= 0 || p.Total <= p.Done {
		return 0
	}
	return time.Duration(float64(p.Total-p.Done) / p.Rate * float64(time.Second))
}

// SpaceError says that a file does not fit on its disk.
type SpaceError struct {
	Dir        string
	Need, Free int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s more must fit into %q, which has %s free; make room there, or choose a folder on another disk",
		bytesize.Decimal(e.Need), e.Dir, bytesize.Decimal(e.Free))
}

func (e *SpaceError) Unwrap() error { return syscall.ENOSPC }

// DigestError says that what came is not what was asked for.
type DigestError struct{ Want, Got Digest }

func (e *DigestError) Error() string {
	return fmt.Sprintf("the content has the checksum %s, not %s; it was damaged or replaced, and is thrown away", e.Got, e.Want)
}

// TimeoutError says that a download took longer than it may.
type TimeoutError struct{ Limit time.Duration }

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("it is not done after %s; what came is kept, and the next try goes on with it; raise \"download.timeout\" where that is to be expected", e.Limit)
}

// Timeout is true.
func (e *TimeoutError) Timeout() bool { return true }

// Download brings the file to its path, or finds it there. Two processes may do so at once: one works, the other waits
// and uses the result. What an interrupted run has got is kept beside the path under another name, and is used again.
//
// An error does not contain the token, nor the user or query of a URL.
func Download(ctx context.Context, f File) error {
	if err := download(ctx, f); err != nil {
		return fmt.Errorf("cannot download %s: %w", Redact(f.URL), access.Explain(err))
	}
	return nil
}

func download(ctx context.Context, f File) error {
	f.MaxSize = cmp.Or(f.MaxSize, 1<<40)
	f.Connections = cmp.Or(f.Connections, 4)
	f.Stall = cmp.Or(f.Stall, 30*time.Second)
	f.MinPerMinute = cmp.Or(f.MinPerMinute, 64<<10)
	f.Timeout = cmp.Or(f.Timeout, 24*time.Hour)
	f.minute = cmp.Or(f.minute, time.Minute)
	f.Lock = cmp.Or(f.Lock, f.Path+".lock")
	f.minRange = cmp.Or(f.minRange, 32<<20)
	f.retryFloor = cmp.Or(f.retryFloor, 250*time.Millisecond)
	if f.Progress == nil {
		f.Progress = func(Progress) {}
	}
	if err := f.Digest.check(f.Size); err != nil {
		return err
	}
	if err := CheckURL(f.URL); err != nil {
		return err
	}
	if there, err := exists(f.Path); there || err != nil {
		return err
	}
	unlock, err := Lock(ctx, f.Lock, func() { f.Progress(Progress{Total: f.Size, Waiting: true}) })
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := exists(f.Path); there || err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o777); err != nil { // whoever tidied up meanwhile has removed it
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.Timeout, &TimeoutError{f.Timeout})
	defer cancel()
	d := newTransfer(f)
	defer d.close()
	for range 3 {
		var resumed bool
		resumed, err = d.attempt(ctx)
		var wrong *DigestError
		switch {
		case errors.Is(err, errChanged):
			// Servers behind one name may not agree on the ETag of one file. From now on the checksum alone decides.
			d.anyETag = true
		case errors.As(err, &wrong) && resumed:
			// Bytes that were lost with the power, or are of another version of the file, look as if they were there.
		default:
			return err
		}
	}
	return err
}

// exists reports whether the file is there. It is trusted: it got its name when its checksum was right.
func exists(path string) (bool, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%q is in the way: it is no regular file; remove it", path)
	}
	return true, nil
}

// attempt downloads what is missing. It reports whether there was something of an earlier run.
func (d *transfer) attempt(ctx context.Context) (resumed bool, err error) {
	src, err := d.probe(ctx)
	if err != nil {
		return false, err
	}
	if src.size > d.MaxSize {
		return false, fmt.Errorf("it has %s, more than the %s that are allowed", bytesize.Decimal(src.size), bytesize.Decimal(d.MaxSize))
	}
	if d.Size > 0 && src.size > 0 && src.size != d.Size {
		return false, fmt.Errorf("it has %d bytes, but should have %d", src.size, d.Size)
	}
	p, err := openPart(d.Path, d.Digest, src, d.minRange)
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil && p.done() == 0 {
			p.discard()
		}
		p.close()
	}()
	before := p.done()
	if err := EnsureSpace(filepath.Dir(d.Path), max(src.size, d.Size)-before); err != nil {
		return before > 0, err
	}
	got, err := d.run(ctx, src, p)
	if err != nil {
		return before > 0, err
	}
	if got != d.Digest {
		p.discard()
		return before > 0, &DigestError{Want: d.Digest, Got: got}
	}
	return before > 0, p.commit()
}

// EnsureSpace returns a *SpaceError when need more bytes do not fit into dir, which must exist.
func EnsureSpace(dir string, need int64) error {
	free, _, err := logcap.Space(dir)
	if err != nil || need <= 0 || uint64(need) <= free {
		return nil //nolint:nilerr // a file system that cannot tell is written to until it refuses
	}
	return &SpaceError{Dir: dir, Need: need, Free: int64(free)}
}

// Missing is how many bytes of a file are still to come; 0 when it is there, -1 when that is not known.
func Missing(f File) int64 {
	if info, err := os.Stat(f.Path); err == nil && info.Mode().IsRegular() {
		return 0
	}
	if f.Size == 0 {
		return -1
	}
	data, err := os.ReadFile(f.Path + stateSuffix)
	var s state
	if err != nil || json.Unmarshal(data, &s) != nil || s.Digest != f.Digest {
		return f.Size
	}
	missing := f.Size
	for _, n := range s.Done {
		missing -= n
	}
	return max(1, missing)
}

// Free is how many bytes fit into dir, which must exist; 0 where that cannot be told.
func Free(dir string) int64 {
	free, _, err := logcap.Space(dir)
	if err != nil {
		return 0
	}
	return int64(free)
}
