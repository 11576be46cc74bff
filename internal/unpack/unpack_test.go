package unpack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// entry is a file, or with a kind something else.
type entry struct {
	name, text string
	kind       byte // of tar; 0 is a file
	mode       int64
}

func tarGz(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode}
		if e.kind == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.text))
		} else {
			h.Linkname = e.text
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == 0 {
			if _, err := io.WriteString(w, e.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zipped(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		mode := fs.FileMode(e.mode)
		switch e.kind {
		case tar.TypeSymlink:
			mode |= fs.ModeSymlink
		case tar.TypeDir:
			mode |= fs.ModeDir
		case tar.TypeFifo:
			mode |= fs.ModeNamedPipe
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err == nil && e.kind != tar.TypeDir {
			_, err = io.WriteString(f, e.text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unpacked unpacks into a folder that lies in another one, which must stay empty beside it.
func unpacked(t testing.TB, data []byte, o Options) (dir string, err error) {
	t.Helper()
	outer := t.TempDir()
	file, dir := filepath.Join(outer, "archive"), filepath.Join(outer, "in", "dir")
	if err := errors.Join(os.WriteFile(file, data, 0o600), os.MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	err = Archive(context.Background(), file, dir, o)
	for folder, want := range map[string][]string{outer: {"archive", "in"}, filepath.Dir(dir): {"dir"}} {
		var names []string
		found, _ := os.ReadDir(folder)
		for _, f := range found {
			names = append(names, f.Name())
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s holds %q", folder, names)
		}
	}
	return dir, err
}

// tree lists what is below dir: names, and what they hold or where they point.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil || d.IsDir():
			return err
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			all = append(all, name+"->"+to)
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if info.Mode()&0o100 != 0 {
			name += "*"
		}
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|0o022) != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		all = append(all, name+"="+string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestArchive(t *testing.T) {
	t.Parallel()
	release := []entry{
		{name: "./llama-b1/", kind: tar.TypeDir, mode: 0o777},
		{name: "./llama-b1/libllama.so", text: "libllama.so.0", kind: tar.TypeSymlink, mode: 0o777},
		{name: "./llama-b1/libllama.so.0", text: "lib", mode: 0o644},
		{name: "./llama-b1/llama-server", text: "server", mode: 0o4777},
		{name: "./llama-b1/lib/deep/x", text: "x", mode: 0o600},
		{name: "./llama-b1/lib/up", text: "../llama-server", kind: tar.TypeSymlink, mode: 0o777},
	}
	const want = "lib/deep/x=x lib/up->../llama-server libllama.so->libllama.so.0 libllama.so.0=lib llama-server*=server"
	for name, data := range map[string][]byte{"tar": tarGz(t, release...), "zip": zipped(t, release...)} {
		dir, err := unpacked(t, data, Options{Strip: 1})
		if got := tree(t, dir); err != nil || got != want {
			t.Errorf("%s: %s (%v)", name, got, err)
		}
		dir, err = unpacked(t, data, Options{})
		if got := tree(t, dir); err != nil || !strings.HasPrefix(got, "llama-b1/lib/deep/x=x ") {
			t.Errorf("%s: %s (%v)", name, got, err)
		}
		dir, err = unpacked(t, data, Options{Strip: 9})
		if got := tree(t, dir); err != nil || got != "" {
			t.Errorf("%s: %s (%v)", name, got, err)
		}
	}
	dir, err := unpacked(t, tarGz(t, entry{name: "a/b", text: "1", mode: 0o755}, entry{name: "c", text: "a/b", kind: tar.TypeLink}), Options{})
	if got := tree(t, dir); err != nil || got != "a/b*=1 c*=1" {
		t.Errorf("hard link: %s (%v)", got, err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	symlink := func(name, target string) entry {
		return entry{name: name, text: target, kind: tar.TypeSymlink, mode: 0o777}
	}
	bomb := strings.Repeat("\x00", 65<<20)
	for want, entries := range map[string][]entry{
		"leads out of the folder":                {{name: "../x"}},
		`the name "a/../../x" leads out`:         {{name: "a/../../x"}},
		"begins with a slash":                    {{name: "/etc/x"}},
		"holds a character":                      {{name: `a\..\x`}},
		"which is not in the archive":            {symlink("x", "/etc/passwd")},
		`points to "../x"`:                       {symlink("y", "../x")},
		`points to "b/../../x"`:                  {symlink("y", "b/../../x")},
		`"x" is a folder and something else`:     {symlink("x", "y"), {name: "x/y"}},
		`"x" is there twice`:                     {{name: "x"}, {name: "x"}},
		`"y" is there twice`:                     {{name: "y"}, symlink("y", "z")},
		`"z" is there twice`:                     {{name: "z/a"}, {name: "z"}},
		`the link "l" leads out of the folder`:   {{name: "d/f"}, symlink("a", "."), symlink("l", "a/../x")},
		"neither a file nor a folder nor a link": {{name: "p", kind: tar.TypeFifo}},
		"it has more than 3 entries":             {{name: "1"}, {name: "2"}, {name: "3"}, {name: "4"}},
		"it unpacks to more than":                {{name: "zeros", text: bomb}},
	} {
		for name, data := range map[string][]byte{"tar": tarGz(t, entries...), "zip": zipped(t, entries...)} {
			if _, err := unpacked(t, data, Options{MaxFiles: 3, MaxRatio: 10}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
	for want, data := range map[string][]byte{
		"neither a tar.gz nor a zip file": []byte("#!/bin/sh\n"),
		"which is no file before it":      tarGz(t, entry{name: "c", text: "../../etc/passwd2", kind: tar.TypeLink}, entry{name: "d", text: "absent", kind: tar.TypeLink}),
		"unexpected EOF":                  tarGz(t, entry{name: "x", text: strings.Repeat("abc", 9999)})[:60],
		"gzip: invalid checksum":          spoilt(tarGz(t, entry{name: "x", text: "y"})),
	} {
		_, err := unpacked(t, data, Options{})
		if err == nil || !strings.Contains(err.Error(), want) && want != "which is no file before it" {
			t.Errorf("%v, want %q", err, want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	file := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(file, tarGz(t, entry{name: "x"}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Archive(ctx, file, t.TempDir(), Options{}); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func spoilt(data []byte) []byte {
	data[len(data)-6] ^= 1
	return data
}

// FuzzName: no name and no link leads out of the folder.
func FuzzName(f *testing.F) {
	for _, name := range []string{"a", "../a", "a/../b", "/a", "./a//b/", `a\b`, "a/..", "...", "", "a/../../b"} {
		f.Add(name, name, 0)
		f.Add("x/y", name, 1)
	}
	f.Fuzz(func(t *testing.T, name, target string, strip int) {
		got, err := Name(name, min(max(strip, 0), 5))
		if err == nil && got != "" && !filepath.IsLocal(got) {
			t.Errorf("%q goes to %q", name, got)
		}
		if err == nil && got != path.Clean(got) && got != "" {
			t.Errorf("%q is not clean", got)
		}
		if err != nil || got == "" || Target(got, target) != nil {
			return
		}
		if to := path.Join(path.Dir(got), target); !filepath.IsLocal(to) && to != "." {
			t.Errorf("the link %q to %q leads to %q", got, target, to)
		}
	})
}

// FuzzArchive: whatever the bytes, nothing is written outside.
func FuzzArchive(f *testing.F) {
	f.Add(tarGz(f, entry{name: "a/b", text: "x"}, entry{name: "l", text: "a", kind: tar.TypeSymlink}))
	f.Add(zipped(f, entry{name: "a/b", text: "x"}, entry{name: "l", text: "a", kind: tar.TypeSymlink, mode: 0o777}))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = unpacked(t, data, Options{MaxFiles: 20, MaxBytes: 1 << 20})
	})
}
