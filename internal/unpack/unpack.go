// Package unpack unpacks archives that came from elsewhere. Whatever their names, links and sizes say, nothing is written
// outside of the folder, nothing but plain files, folders and links among them is made, and no more than a limit.
//
// Who brings engines here calls it. It downloads nothing, and runs nothing of what it unpacks.
package unpack

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Options say how an archive is unpacked.
type Options struct {
	Strip    int   // leading folders that are left out of the names; what lies above them is left out whole
	MaxFiles int   // 0 means 100,000
	MaxBytes int64 // of all files together; 0 means 64 GiB
	MaxRatio int64 // of unpacked to packed bytes; 0 means 200
}

// Archive unpacks a tar.gz or zip file into dir, which must exist and should be empty. What it is, its content tells. After
// an error or the end of ctx, dir holds something of it.
func Archive(ctx context.Context, file, dir string, o Options) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if o.MaxFiles == 0 {
		o.MaxFiles = 100_000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 30
	}
	if o.MaxRatio == 0 {
		o.MaxRatio = 200
	}
	// A small archive of text may well be packed that tightly.
	o.MaxBytes = min(o.MaxBytes, max(64<<20, info.Size()*o.MaxRatio))
	u := &unpacker{ctx: ctx, root: root, Options: o, made: map[string]bool{}}
	var magic [4]byte
	_, _ = f.ReadAt(magic[:], 0)
	switch {
	case magic[0] == 0x1f && magic[1] == 0x8b:
		err = u.tarGz(f)
	case string(magic[:]) == "PK\x03\x04", string(magic[:]) == "PK\x05\x06":
		err = u.zip(f, info.Size())
	default:
		return errors.New("it is neither a tar.gz nor a zip file")
	}
	if err == nil {
		err = u.links()
	}
	return err
}

// Name is where an entry of an archive goes: a slash-separated path in the folder, or "" for one that Strip leaves out.
func Name(name string, strip int) (string, error) {
	switch {
	case strings.ContainsAny(name, "\x00\\"):
		return "", fmt.Errorf("the name %q holds a character that none should", name)
	case strings.HasPrefix(name, "/"):
		return "", fmt.Errorf("the name %q begins with a slash", name)
	case len(name) > 4096:
		return "", errors.New("a name is longer than 4096 bytes")
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("the name %q leads out of the folder", name)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) <= strip {
		return "", nil
	}
	return path.Join(parts[strip:]...), nil
}

// Target checks where a symbolic link of that name points: it must stay in the folder, and be relative so that the
// folder can be looked at from anywhere.
func Target(name, target string) error {
	if target == "" || path.IsAbs(target) || strings.ContainsAny(target, "\x00\\") {
		return fmt.Errorf("the link %q points to %q, which is not in the archive", name, target)
	}
	// Component by component: "a/../../b" must not be told from "../b" by what "a" may be.
	depth := strings.Count(name, "/")
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return fmt.Errorf("the link %q points to %q, which leads out of the folder", name, target)
			}
		default:
			depth++
		}
	}
	return nil
}

type link struct{ name, target string }

type unpacker struct {
	Options
	ctx      context.Context
	root     *os.Root
	made     map[string]bool // false for folders, which may come again
	symlinks []link
	entries  int
	bytes    int64
}

func (u *unpacker) tarGz(f *os.File) error {
	z, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }() // its checksum is read below
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			// The checksum of gzip stands behind the end of the archive.
			_, err = io.Copy(io.Discard, io.LimitReader(z, 1<<20))
			return err
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		name, err := u.next(h.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = u.folder(name)
		case tar.TypeReg:
			err = u.file(name, h.FileInfo().Mode(), t)
		case tar.TypeSymlink:
			err = u.symlink(name, h.Linkname)
		case tar.TypeLink:
			err = u.hardLink(name, h.Linkname)
		case tar.TypeXGlobalHeader:
		default:
			err = fmt.Errorf("%q is neither a file nor a folder nor a link", name)
		}
		if err != nil {
			return err
		}
	}
}

func (u *unpacker) zip(f *os.File, size int64) error {
	z, err := zip.NewReader(f, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return err
	}
	for _, entry := range z.File {
		name, err := u.next(entry.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		switch mode := entry.Mode(); {
		case mode.IsDir():
			err = u.folder(name)
		case mode.IsRegular():
			err = reading(entry, func(r io.Reader) error { return u.file(name, mode, r) })
		case mode&fs.ModeSymlink != 0:
			err = reading(entry, func(r io.Reader) error {
				target, err := io.ReadAll(io.LimitReader(r, 4097))
				if err == nil && len(target) > 4096 {
					err = fmt.Errorf("the target of the link %q is longer than 4096 bytes", name)
				}
				return errors.Join(err, u.symlink(name, string(target)))
			})
		default:
			err = fmt.Errorf("%q is neither a file nor a folder nor a link", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func reading(entry *zip.File, f func(io.Reader) error) error {
	r, err := entry.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return f(r)
}

// next begins an entry.
func (u *unpacker) next(name string) (string, error) {
	if u.ctx.Err() != nil {
		return "", context.Cause(u.ctx)
	}
	if u.entries++; u.entries > u.MaxFiles {
		return "", fmt.Errorf("it has more than %d entries", u.MaxFiles)
	}
	return Name(name, u.Strip)
}

// claim makes sure that a name is there once, and that its folders are folders.
func (u *unpacker) claim(name string) error {
	if _, twice := u.made[name]; twice {
		return fmt.Errorf("%q is there twice", name)
	}
	if dir := path.Dir(name); dir != "." {
		if err := u.folder(dir); err != nil {
			return err
		}
	}
	u.made[name] = true
	return nil
}

func (u *unpacker) folder(name string) error {
	for dir := name; dir != "."; dir = path.Dir(dir) {
		if u.made[dir] {
			return fmt.Errorf("%q is a folder and something else", dir)
		}
	}
	if err := u.root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	for dir := name; dir != "."; dir = path.Dir(dir) {
		u.made[dir] = false
	}
	return nil
}

func (u *unpacker) file(name string, mode fs.FileMode, content io.Reader) error {
	if err := u.claim(name); err != nil {
		return err
	}
	perm := fs.FileMode(0o644) // whatever the archive says, others must not replace it, and it runs as who starts it
	if mode&0o100 != 0 {
		perm = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(counting{f, u}, content, make([]byte, 256<<10))
	return errors.Join(err, f.Close())
}

// counting holds a file to the limit of them all, whatever size its header claims.
type counting struct {
	w io.Writer
	u *unpacker
}

func (c counting) Write(p []byte) (int, error) {
	if c.u.ctx.Err() != nil {
		return 0, context.Cause(c.u.ctx)
	}
	if c.u.bytes += int64(len(p)); c.u.bytes > c.u.MaxBytes {
		return 0, fmt.Errorf("it unpacks to more than %d bytes, which its size does not account for", c.u.MaxBytes)
	}
	return c.w.Write(p)
}

// symlink notes a link. It is made when everything else is there, so that nothing is written through it.
func (u *unpacker) symlink(name, target string) error {
	if err := Target(name, target); err != nil {
		return err
	}
	if err := u.claim(name); err != nil {
		return err
	}
	u.symlinks = append(u.symlinks, link{name, target})
	return nil
}

func (u *unpacker) hardLink(name, target string) error {
	to, err := Name(target, u.Strip)
	if err != nil {
		return err
	}
	if !u.made[to] {
		return fmt.Errorf("the link %q points to %q, which is no file before it", name, target)
	}
	if err := u.claim(name); err != nil {
		return err
	}
	return u.root.Link(to, name)
}

func (u *unpacker) links() error {
	for _, l := range u.symlinks {
		if err := u.root.Symlink(l.target, l.name); err != nil {
			return err
		}
	}
	// A link to a link to a folder can lead elsewhere than its own text does: now that all are there, each is followed.
	for _, l := range u.symlinks {
		if _, err := u.root.Stat(l.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the link %q leads out of the folder: %w", l.name, err)
		}
	}
	return nil
}
