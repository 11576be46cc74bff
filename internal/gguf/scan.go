package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"strings"

	parser "github.com/gpustack/gguf-parser-go"
)

// More than this no model has, and no engine takes: what llama.cpp itself takes is in the comments.
const (
	maxKeys      = 1 << 16
	maxTensors   = 1 << 18
	maxDims      = 4    // GGML_MAX_DIMS
	maxTensor    = 127  // GGML_MAX_NAME is 64, of which the last is a zero
	maxDepth     = 4    // of arrays within arrays, of which llama.cpp takes none
	maxText      = 255  // of a text that is kept, such as the name of an architecture
	maxLayers    = 4096 // LLAMA_MAX_LAYERS is 512
	maxAlignment = 1 << 20
)

// kind is the type of a value, as it stands in the file.
type kind uint32

const (
	kindUint8 kind = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
	kinds
)

// kindBytes are their sizes; 0 where it varies.
var kindBytes = [kinds]uint64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}

func (k kind) whole() bool { return k < kinds && kindBytes[k] > 0 && k != kindBool && !k.real() }
func (k kind) real() bool  { return k == kindFloat32 || k == kindFloat64 }

// String is what people call it.
func (k kind) String() string {
	switch {
	case k.real():
		return "a fraction"
	case k == kindBool:
		return "a truth value"
	case k == kindString:
		return "text"
	case k == kindArray:
		return "a list"
	}
	return "a number"
}

// value is that of a key that matters here.
type value struct {
	kind   kind
	number uint64 // bits of a number or truth value, with the sign extended
	text   string
	of     kind    // of the elements of an array
	count  uint64  // of the elements
	list   []value // the elements, where they are few and numbers or truth values
}

func (v value) negative() bool {
	return int64(v.number) < 0 && (v.kind == kindInt8 || v.kind == kindInt16 || v.kind == kindInt32 || v.kind == kindInt64)
}

// header is that of one file.
type header struct {
	size    int64
	keys    map[string]value // those that matter here
	tensors []parser.GGUFTensorInfo
	data    int64 // where the weights begin
	weights uint64
	foreign error // wraps ErrUnknown: it has what is not known here
}

// scan reads the header of a file with so many bytes. It holds everything that it finds against the size of the file and
// against what is possible, so that whoever looks at the header afterwards need not.
func scan(src io.ReaderAt, size int64) (*header, error) {
	c := &cursor{src: src, size: size}
	h := &header{size: size, keys: map[string]value{}}
	if magic := string(c.bytes(int(min(4, size)))); c.err == nil && magic != "GGUF" {
		return nil, fmt.Errorf("%w: %s", ErrFormat, instead(magic))
	}
	switch version := c.uint32(); {
	case c.err != nil:
		return nil, c.err
	case version == 0:
		c.fail(ErrFormat, "its version is 0")
	case version&math.MaxUint16 == 0: // the way of llama.cpp to tell it
		c.fail(ErrUnknown, "its numbers are in the byte order of other machines")
	case version > 3:
		c.fail(ErrUnknown, "its version is %d", version)
	default:
		c.short = version == 1
	}
	tensors, keys := c.length(), c.length()
	switch {
	case c.err != nil:
	case tensors > maxTensors:
		c.fail(ErrFormat, "it says that it has %d tensors", tensors)
	case keys > maxKeys:
		c.fail(ErrFormat, "it says that it has %d keys", keys)
	}
	if c.err != nil {
		return nil, c.err
	}
	h.scanKeys(c, keys)
	h.scanTensors(c, tensors)
	if c.err != nil {
		return nil, c.err
	}
	return h, nil
}

func (h *header) scanKeys(c *cursor, count uint64) {
	seen := map[string]bool{}
	for range count {
		key := c.name("a key", maxName)
		c.place = fmt.Sprintf(", at key %q", key)
		if seen[key] {
			c.fail(ErrFormat, "key %q stands in it twice", key)
		}
		if c.err != nil {
			return
		}
		seen[key] = true
		v := c.value(matters(key))
		if matters(key) {
			h.keys[key] = v
		}
	}
	c.place = ""
}

// matters reports whether the value of a key is looked at. The others are skipped, vocabularies above all.
func matters(key string) bool {
	family, rest, _ := strings.Cut(key, ".")
	_, known := rules[rest]
	return known || family == "general" || family == "split" || slices.Contains([]string{keyTokenizer, keyTokens, keyMerges}, key)
}

// value reads one and keeps of it what is small.
func (c *cursor) value(keep bool) value {
	v := value{kind: kind(c.uint32())}
	switch {
	case c.err != nil:
	case v.kind >= kinds:
		c.fail(ErrFormat, "its value%s is of kind %d, which does not exist", c.place, v.kind)
	case v.kind == kindString:
		v.text = c.text(keep)
	case v.kind == kindArray:
		c.array(&v, keep, 1)
	default:
		v.number = c.number(v.kind)
	}
	return v
}

func (c *cursor) number(k kind) uint64 {
	b := c.bytes(int(kindBytes[k]))
	switch k {
	case kindUint8, kindBool:
		return uint64(b[0])
	case kindInt8:
		return uint64(int64(int8(b[0])))
	case kindUint16:
		return uint64(binary.LittleEndian.Uint16(b))
	case kindInt16:
		return uint64(int64(int16(binary.LittleEndian.Uint16(b))))
	case kindInt32:
		return uint64(int64(int32(binary.LittleEndian.Uint32(b))))
	case kindUint32, kindFloat32:
		return uint64(binary.LittleEndian.Uint32(b))
	default:
		return binary.LittleEndian.Uint64(b)
	}
}

func (c *cursor) text(keep bool) string {
	n := c.length()
	if !c.promise(n, 1, "its text") {
		return ""
	}
	if keep && n <= maxText {
		return string(c.bytes(int(n)))
	}
	c.skip(n)
	return ""
}

func (c *cursor) array(v *value, keep bool, depth int) {
	v.of = kind(c.uint32())
	v.count = c.length()
	switch {
	case c.err != nil:
	case v.of >= kinds:
		c.fail(ErrFormat, "its list%s is of kind %d, which does not exist", c.place, v.of)
	case depth > maxDepth:
		c.fail(ErrFormat, "it has lists within lists%s, more than %d deep", c.place, maxDepth)
	case v.of == kindString:
		for i := uint64(0); i < v.count && c.promise(v.count-i, c.lengthBytes(), "its list"); i++ {
			c.text(false)
		}
	case v.of == kindArray:
		var inner value // of no interest
		for i := uint64(0); i < v.count && c.promise(v.count-i, 4+c.lengthBytes(), "its list"); i++ {
			c.array(&inner, false, depth+1)
		}
	case !c.promise(v.count, kindBytes[v.of], "its list"):
	case keep && v.count <= maxLayers:
		v.list = make([]value, v.count)
		for i := range v.list {
			v.list[i] = value{kind: v.of, number: c.number(v.of)}
		}
	default:
		c.skip(v.count * kindBytes[v.of])
	}
}

// lengthBytes is the least that a text takes.
func (c *cursor) lengthBytes() uint64 {
	if c.short {
		return 4
	}
	return 8
}

func (h *header) scanTensors(c *cursor, count uint64) {
	seen := map[string]bool{}
	alignment := h.alignment(c)
	var data uint64 // all of them, one after the other
	var furthest parser.GGUFTensorInfo
	var end uint64
	for i := range count {
		c.place = fmt.Sprintf(", at tensor %d", i+1)
		t := parser.GGUFTensorInfo{Name: c.name("a tensor", maxTensor), NDimensions: c.uint32()}
		switch {
		case c.err != nil:
			return
		case t.NDimensions > maxDims:
			c.fail(ErrFormat, "tensor %q has %d dimensions", t.Name, t.NDimensions)
		case seen[t.Name]:
			c.fail(ErrFormat, "tensor %q stands in it twice", t.Name)
		}
		seen[t.Name] = true
		t.Dimensions = make([]uint64, min(t.NDimensions, maxDims), maxDims)
		for i := range t.Dimensions {
			t.Dimensions[i] = c.length()
		}
		t.Type = parser.GGMLType(c.uint32())
		t.Offset = c.uint64()
		bytes := h.tensorBytes(c, &t)
		if c.err == nil && t.Offset%alignment != 0 {
			c.fail(ErrFormat, "tensor %q begins at %d, which is no multiple of %d", t.Name, t.Offset, alignment)
		}
		last, over := bits.Add64(t.Offset, bytes, 0)
		sum, more := bits.Add64(data, bytes, 0)
		if c.err == nil && (over != 0 || more != 0) {
			c.fail(ErrFormat, "tensor %q has %d bytes from %d on, more than any file", t.Name, bytes, t.Offset)
		}
		if c.err != nil {
			return
		}
		data = sum
		if last > end {
			furthest, end = t, last
		}
		h.tensors = append(h.tensors, t)
	}
	c.place = ""
	if c.err != nil {
		return
	}
	begin := (uint64(c.offset) + alignment - 1) / alignment * alignment
	h.data, h.weights = int64(begin), data
	held := uint64(c.size) - min(uint64(c.size), begin)
	switch need := max(data, end); {
	case need <= held:
	case data > held:
		c.fail(ErrFormat, "it is truncated: its weights need %d bytes, and there are %d", need, held)
	default: // so much for a download; it may as well be one wrong number
		c.fail(ErrFormat, "it is truncated: tensor %q ends at %d, and there are %d bytes", furthest.Name, end, held)
	}
}

// tensorBytes is the size of one; 0 where its type is not known here, but may be to an engine.
func (h *header) tensorBytes(c *cursor, t *parser.GGUFTensorInfo) uint64 {
	trait, _ := t.Type.Trait()
	if trait.BlockSize == 0 {
		if h.foreign == nil {
			h.foreign = fmt.Errorf("%w: tensor %q is of type %d", ErrUnknown, t.Name, uint32(t.Type))
		}
		return 0
	}
	if t.NDimensions == 0 { // one number
		t.NDimensions, t.Dimensions = 1, []uint64{1}
	}
	row := t.Dimensions[0]
	if c.err == nil && row%trait.BlockSize != 0 {
		c.fail(ErrFormat, "tensor %q has rows of %d values, which is no multiple of %d", t.Name, row, trait.BlockSize)
	}
	high, bytes := bits.Mul64(row/trait.BlockSize, trait.TypeSize)
	values := row
	for _, n := range t.Dimensions[1:] {
		over, product := bits.Mul64(bytes, n)
		many, all := bits.Mul64(values, n)
		high, bytes, values = high|over|many, product, all
	}
	if c.err == nil && (high != 0 || bytes > math.MaxInt64 || values > math.MaxInt64) {
		c.fail(ErrFormat, "tensor %q has the dimensions %v, more than any file", t.Name, t.Dimensions)
	}
	return bytes
}

// alignment is that of the weights.
func (h *header) alignment(c *cursor) uint64 {
	v, ok := h.keys[keyAlignment]
	if !ok {
		return 32
	}
	if c.err == nil && (!v.kind.whole() || v.number == 0 || v.number > maxAlignment || v.number&(v.number-1) != 0) {
		c.fail(ErrFormat, "key %q is %s and must be a power of 2 up to %d", keyAlignment, v, maxAlignment)
	}
	return max(v.number, 1)
}
