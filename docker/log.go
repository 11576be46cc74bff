package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/flock"
)

// logCopy copies what a container says into the launch's log.
//
// The runtime keeps the output while no manager lives, and a later one goes on where the last one ended: a small file
// beside the log tells how far that was, and its lock makes one program at a time do it. It is written after the log, so
// that lines of the manager's last milliseconds may come twice, but none is lost.
type logCopy struct {
	r      *runtime
	path   string
	cursor string

	file *os.File // of the cursor, locked; nil: not ours to copy
	at   position
}

// position is how far a log was copied. Lines that are printed at once have one time.
type position struct {
	time  time.Time
	lines int // of that time
}

func newLogCopy(r *runtime, path string) *logCopy {
	return &logCopy{r: r, path: path, cursor: strings.TrimSuffix(path, ".log") + ".cursor"}
}

// create makes the cursor of a new log.
func (l *logCopy) create() error {
	file, err := atomicfile.New(l.cursor)
	if err != nil {
		return fmt.Errorf("cannot create a file beside the log: %w", err)
	}
	return file.Close()
}

// open takes the cursor. It reports false when another program copies, or has copied all.
func (l *logCopy) open() bool {
	if l.file != nil {
		return true
	}
	file, err := os.OpenFile(l.cursor, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	if err := flock.Try(file); err != nil {
		file.Close()
		return false
	}
	var nanos int64
	if _, err := fmt.Fscanf(io.NewSectionReader(file, 0, 64), "%d %d", &nanos, &l.at.lines); err == nil {
		l.at.time = time.Unix(0, nanos)
	}
	l.file = file
	return true
}

func (l *logCopy) close() {
	if l.file != nil {
		flock.Close(l.file)
		l.file = nil
	}
}

// remove forgets how far the copy was, when there is no more to come.
func (l *logCopy) remove() error {
	l.close()
	return atomicfile.Remove(l.cursor)
}

// follow copies until ctx ends. A runtime that is restarted meanwhile is waited for.
func (l *logCopy) follow(ctx context.Context, id string) {
	for pause := 100 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 2*time.Second) {
		if l.open() {
			_ = l.copy(ctx, id, true) // what was missed is copied at the end
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// finish copies what is there.
func (l *logCopy) finish(ctx context.Context, id string) {
	ctx, cancel := l.r.bound(ctx)
	defer cancel()
	for wait := time.Millisecond; !l.open(); wait *= 2 {
		if _, err := os.Lstat(l.cursor); err != nil || wait > time.Second { // all was copied, or it is left to who copies
			return
		}
		time.Sleep(wait)
	}
	_ = l.copy(ctx, id, false) // an engine whose last words cannot be had has ended all the same
}

func (l *logCopy) copy(ctx context.Context, id string, follow bool) error {
	// Whoever has removed the log wants none.
	log, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer log.Close()
	options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow}
	if !l.at.time.IsZero() {
		// What was copied is skipped below. Podman leaves out the lines of that very time, of which there can be thousands:
		// all that it reads at once has one.
		options.Since = l.at.time.UTC().Add(-time.Second).Format(time.RFC3339Nano)
	}
	stream, err := l.r.api.ContainerLogs(ctx, id, options)
	if err != nil {
		return err
	}
	defer stream.Close()
	skip, skipped := l.at, false
	in, out := bufio.NewReaderSize(stream, 64<<10), bufio.NewWriterSize(log, 64<<10)
	for {
		at, text, err := readEntry(in)
		if err != nil {
			return errors.Join(err, l.save(out))
		}
		switch {
		case at.IsZero(): // the rest of a line
			if skipped {
				continue
			}
		case at.Before(skip.time):
			skipped = true
			continue
		case at.Equal(skip.time) && skip.lines > 0:
			skip.lines--
			skipped = skip.lines > 0 // the rest of the last one may not be there yet
			continue
		case at.Equal(l.at.time):
			l.at.lines++
		default:
			l.at = position{at, 1}
		}
		skipped = false
		if _, err := out.Write(text); err != nil {
			return err
		}
		if in.Buffered() == 0 {
			if err := l.save(out); err != nil {
				return err
			}
		}
	}
}

// save writes what was read, and then how far that is.
func (l *logCopy) save(out *bufio.Writer) error {
	if out.Buffered() == 0 {
		return nil
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := l.file.WriteAt(fmt.Appendf(nil, "%020d %010d\n", l.at.time.UnixNano(), l.at.lines), 0)
	return err
}

// maxEntry is far above what a runtime sends at once: Docker cuts lines at 16 KiB.
const maxEntry = 16 << 20

// readEntry reads one entry of a log with timestamps: a head of 8 bytes with the length at its end, the time, a space and
// the text.
func readEntry(in io.Reader) (at time.Time, text []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return at, nil, err
	}
	size := binary.BigEndian.Uint32(head[4:])
	if size > maxEntry {
		return at, nil, fmt.Errorf("an entry of %d bytes", size)
	}
	entry := make([]byte, size)
	if _, err := io.ReadFull(in, entry); err != nil {
		return at, nil, err
	}
	stamp, rest, found := bytes.Cut(entry, []byte(" "))
	if found {
		if at, err = time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
			return at, rest, nil
		}
	}
	return time.Time{}, entry, nil
}
