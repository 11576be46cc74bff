package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// Limits of what is read of one file. They hold for headers that mean harm, and are far from those of real models: the
// largest of them, with 262,144 words and as many merges, have 15 MB.
const (
	windowBytes = 64 << 10 // read at once
	maxRead     = 64 << 20 // of one file, beside what is skipped
	maxName     = 1<<16 - 1
)

// cursor reads a header from its beginning to its end. Its memory is one window, whatever the header says: nothing is
// allocated for a length that is not there. After the first error, which it keeps, it reads zeros.
type cursor struct {
	src    io.ReaderAt
	size   int64
	short  bool // lengths of 32 bits, as in version 1
	offset int64
	window []byte // the bytes from start on
	start  int64
	read   int64
	place  string // for people: where the cursor is
	err    error
}

// fail keeps the first error.
func (c *cursor) fail(kind error, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: "+format, append([]any{kind}, args...)...)
	}
}

func (c *cursor) left() uint64 { return uint64(c.size - c.offset) }

// holds reports whether the file has n bytes more. A download that was cut off is the usual reason when it has not.
func (c *cursor) holds(n uint64) bool {
	if c.err == nil && n > c.left() {
		c.fail(ErrFormat, "it is truncated: it ends within its header%s", c.place)
	}
	return c.err == nil
}

// bytes is valid until the next call.
func (c *cursor) bytes(n int) []byte {
	if !c.holds(uint64(n)) {
		return make([]byte, min(n, 8))
	}
	if at := int(c.offset - c.start); c.offset < c.start || at+n > len(c.window) {
		c.fill(n)
		if c.err != nil {
			return make([]byte, min(n, 8))
		}
	}
	at := int(c.offset - c.start)
	c.offset += int64(n)
	return c.window[at : at+n]
}

func (c *cursor) fill(n int) {
	want := int(min(max(windowBytes, int64(n)), c.size-c.offset))
	if c.read += int64(want); c.read > maxRead {
		c.fail(ErrUnknown, "its header has more than %d MiB", maxRead>>20)
		return
	}
	if cap(c.window) < want {
		c.window = make([]byte, want)
	}
	c.window, c.start = c.window[:want], c.offset
	switch got, err := c.src.ReadAt(c.window, c.offset); {
	case got == want:
	case err == io.EOF: // it became shorter since it was opened
		c.size = c.offset + int64(got)
		c.holds(uint64(want))
	default:
		c.window, c.err = c.window[:0], err
	}
}

func (c *cursor) skip(n uint64) {
	if c.holds(n) {
		c.offset += int64(n)
	}
}

func (c *cursor) uint32() uint32 { return binary.LittleEndian.Uint32(c.bytes(4)) }
func (c *cursor) uint64() uint64 { return binary.LittleEndian.Uint64(c.bytes(8)) }

// length reads how many there are of something.
func (c *cursor) length() uint64 {
	if c.short {
		return uint64(c.uint32())
	}
	return c.uint64()
}

// name reads the name of a key or a tensor, of which one has at most so many bytes.
func (c *cursor) name(what string, most uint64) string {
	n := c.length()
	if c.err == nil && n > most {
		c.fail(ErrFormat, "the name of %s%s says that its length is %d, and %d is the most", what, c.place, n, most)
	}
	if c.err != nil {
		return ""
	}
	return string(c.bytes(int(n)))
}

// promise checks that the file can have n of something of so many bytes each. A number that no file can have was not cut
// off, but made.
func (c *cursor) promise(n, each uint64, what string) bool {
	if high, all := bits.Mul64(n, each); high == 0 && all <= c.left() { // a vocabulary asks this half a million times
		return c.err == nil
	}
	switch {
	case c.err != nil:
	case n > c.left()/each && n > 1<<32/each:
		c.fail(ErrFormat, "%s%s says that its length is %d, and %d bytes are left in the file", what, c.place, n, c.left())
	default:
		c.holds(n * each)
	}
	return c.err == nil
}
