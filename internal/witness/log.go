package witness

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"sync/atomic"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Log tells how much of a log is a sign of work: not what tells of questions, which many engines write for each, as our
// own would keep a wedged engine alive.
type Log struct {
	path    string
	gone    *atomic.Pointer[os.File] // the log, once it has lost its name; nil where that cannot be
	pages   [][]byte                 // as lines about questions name them
	chatter *regexp.Regexp           // nil for none

	size int64 // at the last look
	work int64 // of it
}

// NewLog watches the log of an engine.
func NewLog(e Engine) *Log {
	pages := [][]byte{[]byte("GET " + e.Spec.Health)}
	if e.Spec.Asleep != (engine.Field{}) {
		pages = append(pages, []byte("GET "+e.Spec.Asleep.Path))
	}
	if e.Spec.Gauges != nil {
		pages = append(pages, []byte("GET "+e.Spec.Gauges.Path))
	}
	return &Log{path: e.Log, gone: e.Nameless, pages: pages, chatter: e.Spec.Chatter}
}

// maxLogPiece is how much of what is new in a log is looked at.
const maxLogPiece = 64 << 10

// Look returns a number that rises with signs of work. It is never 0.
func (l *Log) Look() int64 {
	file, closeFile := l.open()
	defer closeFile()
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.Size() < l.size: // it was cut, as it had grown
		l.work++
		l.size = info.Size()
	case info.Size() > l.size:
		l.work += l.signs(file, info.Size())
		l.size = info.Size()
	}
	return l.work + 1
}

// open is the log; nil when there is none.
func (l *Log) open() (file *os.File, closeFile func()) {
	if l.gone != nil && l.gone.Load() != nil {
		return l.gone.Load(), func() {}
	}
	file, _ = os.Open(l.path)
	return file, func() { _ = file.Close() } // of nil it is an error, as is all else
}

// signs counts the bytes of new lines that are signs of work, in a log of that size.
func (l *Log) signs(file io.ReaderAt, size int64) (n int64) {
	from := max(l.size, size-maxLogPiece)
	piece, _ := io.ReadAll(io.NewSectionReader(file, from, size-from))
	if from > l.size { // amid a line
		_, piece, _ = bytes.Cut(piece, []byte("\n"))
	}
	for line := range bytes.Lines(piece) {
		if !l.idle(line) {
			n += int64(len(line))
		}
	}
	return n
}

func (l *Log) idle(line []byte) bool {
	for _, page := range l.pages {
		if bytes.Contains(line, page) {
			return true
		}
	}
	return len(bytes.TrimSpace(line)) == 0 || l.chatter != nil && l.chatter.Match(line)
}
