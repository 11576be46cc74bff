package fetch

import (
	"crypto/sha1" // git names its blobs so
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// Digest is the checksum of a file: "sha256:" and 64 hexadecimal digits, or "git:" and the 40 of a git blob.
type Digest string

// SHA256 makes a digest of its hexadecimal digits, in either case.
func SHA256(digits string) Digest { return Digest("sha256:" + strings.ToLower(digits)) }

// Hex is the digits alone.
func (d Digest) Hex() string { return string(d[strings.IndexByte(string(d), ':')+1:]) }

func (d Digest) check(size int64) error {
	kind, digits, _ := strings.Cut(string(d), ":")
	raw, err := hex.DecodeString(digits)
	switch {
	case kind == "sha256" && err == nil && len(raw) == sha256.Size && strings.ToLower(digits) == digits:
		return nil
	case kind == "git" && err == nil && len(raw) == sha1.Size && size == 0:
		return errors.New("the size must be known to check a git blob")
	case kind == "git" && err == nil && len(raw) == sha1.Size:
		return nil
	}
	return fmt.Errorf("%q is no checksum", string(d))
}

// hash begins a checksum of the same kind; a git blob's begins with its size.
func (d Digest) hash(size int64) hash.Hash {
	if strings.HasPrefix(string(d), "git:") {
		h := sha1.New()
		fmt.Fprintf(h, "blob %d\x00", size)
		return h
	}
	return sha256.New()
}

// of reads the checksum out of h.
func (d Digest) of(h hash.Hash) Digest {
	kind, _, _ := strings.Cut(string(d), ":")
	return Digest(kind + ":" + hex.EncodeToString(h.Sum(nil)))
}
