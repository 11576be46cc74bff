package exefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// program is the beginning of a 64-bit ELF file.
func program(machine uint16, loader string) []byte {
	head := make([]byte, 64+56)
	copy(head, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(head[18:], machine)
	binary.LittleEndian.PutUint64(head[32:], 64)
	binary.LittleEndian.PutUint16(head[54:], 56)
	binary.LittleEndian.PutUint16(head[56:], 1)
	if loader != "" {
		binary.LittleEndian.PutUint32(head[64:], 3)
		binary.LittleEndian.PutUint64(head[64+8:], uint64(len(head)))
		binary.LittleEndian.PutUint64(head[64+32:], uint64(len(loader)+1))
	}
	return append(head, loader+"\x00"...)
}

func TestProblem(t *testing.T) {
	t.Parallel()
	var ours, other uint16
	for number, m := range machines {
		if m.arch == runtime.GOARCH {
			ours = number
		}
	}
	other = 183
	if ours == other {
		other = 62
	}
	huge := program(ours, "/lib/ld.so")
	binary.LittleEndian.PutUint64(huge[64+32:], 1<<60)
	outside := program(ours, "")
	binary.LittleEndian.PutUint64(outside[32:], 1<<63)
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":          {nil, "the file is empty"},
		"another CPU":    {program(other, ""), "it was built for " + machines[other].name + ", and this machine is " + runtime.GOARCH},
		"an unknown CPU": {program(9999, ""), "another CPU (ELF machine 9999)"},
		"static":         {program(ours, ""), ""},
		"no loader":      {program(ours, "/lib/ld-musl-none.so.1"), `its loader "/lib/ld-musl-none.so.1" is missing`},
		"a huge loader":  {huge, ""},
		"outside":        {outside, ""},
		"cut":            {program(ours, "")[:30], "not whole"},
		"no interpreter": {[]byte("#!/opt/venv/bin/python3 -s\nprint()\n"), `its interpreter "/opt/venv/bin/python3 -s" is missing`},
		"Windows":        {[]byte("#!/bin/sh\r\nexit\r\n"), "dos2unix"},
		"nothing named":  {[]byte("#!\n"), "names no interpreter"},
		"a good script":  {[]byte("#!/bin/sh\nexit\n"), ""},
		"no first line":  {[]byte("exec llama-server\n"), `without "#!"`},
		"for Windows":    {[]byte("MZ\x90\x00"), "for Windows"},
		"Git LFS":        {[]byte("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"},
		"a model":        {[]byte("GGUF\x03\x00\x00\x00"), "it is a model"},
		"something":      {[]byte{1, 0, 2}, "it is no program"},
		"a long line":    {append([]byte("#!/"), bytes.Repeat([]byte("x"), 5000)...), "too long"},
	} {
		path := filepath.Join(t.TempDir(), "engine")
		if err := os.WriteFile(path, c.content, 0o700); err != nil {
			t.Fatal(err)
		}
		if got := Problem(path); got == "" != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got := Problem(self) + Problem(t.TempDir()) + Problem("/nonexistent"); got != "" {
		t.Errorf("nothing is wrong with these: %q", got)
	}
}

// A script whose first line leaves its interpreter to env is started, and ends like one that has no such program.
func TestExitProblem(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, c := range map[string]struct{ content, want string }{
		"missing":          {"#!/usr/bin/env no-such-python\nx\n", `its interpreter "no-such-python" is not in PATH`},
		"missing, with -S": {"#!/usr/bin/env -S no-such-python -u\nx\n", `its interpreter "no-such-python" is not in PATH`},
		"there":            {"#!/usr/bin/env sh\nexit 127\n", ""},
		"of a shell":       {"#!/bin/sh\nno-such-program\n", ""},
		"another flag":     {"#!/usr/bin/env -i no-such-python\nx\n", ""},
		"one line":         {"#!/bin/sh -c 'exit 127'", ""},
	} {
		path := filepath.Join(folder, "engine")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		err := exec.Command("/bin/sh", "-c", "exit 127").Run()
		if got := ExitProblem(path, "/usr/bin:/bin", err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if got := ExitProblem(path, "", errors.New("another")) + ExitProblem("/nonexistent", "", err); got != "" {
			t.Errorf("%s: %q of another error", name, got)
		}
	}
}

func FuzzProblem(f *testing.F) {
	f.Add(program(62, "/lib64/ld-linux-x86-64.so.2"))
	f.Add([]byte("#!/bin/sh\n"))
	path := filepath.Join(f.TempDir(), "engine")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = Problem(path) // comes back
	})
}
