package tail

import (
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/logcap"
)

// anchorSize is how much of what was read last tells a place in a log from any other.
const anchorSize = 128

// Follower reads a log that grows, and that is cut at its beginning meanwhile. At the end its Read returns io.EOF, and
// can be called again. It is not safe for concurrent use.
//
// A cut moves what is there by whole blocks, or leaves a hole in its place. The follower knows its place by the bytes
// before it, finds it again, and goes on; when what it has not read was cut, it goes on at the first whole line. A
// file that was put in the place of the log is read from its beginning.
type Follower struct {
	path   string
	f      *os.File
	at     int64
	anchor []byte // what was read before at
	cut    bool   // the line at at has lost its beginning
	partly bool   // the last line that was given has no end yet
}

// Follow opens the log at its last n lines, or at its beginning when n is negative.
func Follow(path string, n int) (*Follower, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	t := &Follower{path: path, f: f}
	if t.at, err = lastLines(f, n); err != nil {
		f.Close()
		return nil, err
	}
	t.cut = t.at > 0 && t.at == logcap.FirstData(f)
	return t, nil
}

// Close closes the log.
func (t *Follower) Close() error { return t.f.Close() }

// Read gives what has come since. It returns io.EOF when nothing has.
func (t *Follower) Read(p []byte) (int, error) {
	for {
		data, ok, err := t.next(len(p))
		switch {
		case err != nil:
			return 0, err
		case !ok:
			if t.find() {
				continue
			}
			t.restart()
		case len(data) == 0:
			if replaced, err := t.reopen(); !replaced {
				return 0, err
			}
		default:
			t.at += int64(len(data))
			t.remember(data)
			if data = t.whole(data); len(data) > 0 {
				t.partly = data[len(data)-1] != '\n'
				return copy(p, data), nil
			}
			continue
		}
		if t.partly { // what comes now is another line
			t.partly = false
			return copy(p, "\n"), nil
		}
	}
}

// next reads up to n bytes. It is not ok when what was read before is not there any more, before or after.
func (t *Follower) next(n int) (data []byte, ok bool, err error) {
	if first := logcap.FirstData(t.f); first > t.at { // what was there has been cut
		return nil, false, nil
	}
	buf := make([]byte, len(t.anchor)+n)
	got, err := t.f.ReadAt(buf, t.at-int64(len(t.anchor)))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	if got < len(t.anchor) || !t.here(buf[:len(t.anchor)]) {
		return nil, false, nil
	}
	again := make([]byte, len(t.anchor))
	if _, err := t.f.ReadAt(again, t.at-int64(len(t.anchor))); err != nil || !t.here(again) {
		return nil, false, nil //nolint:nilerr // the file is being cut: the next look finds the place again
	}
	return buf[len(t.anchor):got], true, nil
}

// here reports whether text is what was read before. A hole may have taken its beginning.
func (t *Follower) here(text []byte) bool {
	text = bytes.TrimLeft(text, "\x00")
	return bytes.HasSuffix(t.anchor, text)
}

func (t *Follower) remember(data []byte) {
	t.anchor = append(t.anchor, data...)
	if extra := len(t.anchor) - anchorSize; extra > 0 {
		t.anchor = append([]byte(nil), t.anchor[extra:]...)
	}
}

// find looks for the place in a file that was cut by whole blocks.
func (t *Follower) find() bool {
	buf := make([]byte, len(t.anchor))
	for at := t.at - logcap.Block; at >= int64(len(buf)) && len(buf) > 0; at -= logcap.Block {
		if _, err := t.f.ReadAt(buf, at-int64(len(buf))); err == nil && bytes.Equal(buf, t.anchor) {
			t.at = at
			return true
		}
	}
	return false
}

// restart goes to the first data that is there. Its line has most likely lost its beginning.
func (t *Follower) restart() {
	t.at, t.anchor, t.cut = logcap.FirstData(t.f), nil, true
}

// whole drops what is left of a line that was cut.
func (t *Follower) whole(data []byte) []byte {
	if !t.cut {
		return data
	}
	_, rest, found := bytes.Cut(data, []byte("\n"))
	t.cut = !found
	return rest
}

// reopen goes on with the file that stands in the log's place, if there is one. Its error is io.EOF when there is none.
func (t *Follower) reopen() (bool, error) {
	now, err := os.Stat(t.path)
	if err != nil {
		return false, io.EOF // removed: whoever comes next may make it again
	}
	then, err := t.f.Stat()
	if err != nil {
		return false, err
	}
	if os.SameFile(now, then) {
		return false, io.EOF
	}
	f, err := os.Open(t.path)
	if err != nil {
		return false, io.EOF
	}
	t.f.Close()
	t.f, t.at, t.anchor, t.cut = f, 0, nil, false
	return true, nil
}

// lastLines is where the last n lines of f begin, or its data when n is negative or there are fewer.
func lastLines(f *os.File, n int) (int64, error) {
	first := logcap.FirstData(f)
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n < 0 {
		return first, err
	}
	if n == 0 {
		return end, nil
	}
	buf := make([]byte, 32<<10)
	for at := end; at > first; {
		size := min(at-first, int64(len(buf)))
		at -= size
		got, err := f.ReadAt(buf[:size], at)
		if errors.Is(err, io.EOF) { // it was cut meanwhile
			err = nil
		}
		if err != nil {
			return 0, err
		}
		for i := int64(got) - 1; i >= 0; i-- {
			if buf[i] != '\n' || at+i == end-1 { // the newline at the very end begins no line
				continue
			}
			if n--; n == 0 {
				return at + i + 1, nil
			}
		}
	}
	return first, nil
}
