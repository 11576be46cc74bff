// Package exefile says why a file cannot be run, where the kernel has one word for many reasons: "exec format error" for a
// program of another CPU and for a script without its first line, "no such file or directory" for a script whose
// interpreter is missing.
//
// Whoever runs a program calls it, with the error of that. It runs nothing, and changes no mode.
package exefile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// Problem says, for people, what is wrong with the program at path; "" when nothing is seen that is.
func Problem(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	head := make([]byte, 4096)
	n, err := io.ReadFull(f, head)
	if n == 0 && err != nil {
		return "the file is empty"
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return script(head[2:])
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return elf(head, f)
	case bytes.HasPrefix(head, []byte("MZ")):
		return "it is a program for Windows"
	case isMachO(head):
		return "it is a program for macOS"
	case bytes.HasPrefix(head, []byte("GGUF")):
		return "it is a model"
	case bytes.HasPrefix(head, []byte("version https://git-lfs")):
		return "it is a pointer of Git LFS, not the program; fetch it with git lfs pull"
	case !bytes.ContainsRune(head, 0):
		return `it is a text without "#!" and an interpreter in its first line`
	}
	return "it is no program"
}

// script looks for the interpreter that the first line names.
func script(line []byte) string {
	text, _, whole := strings.Cut(string(line), "\n")
	text = strings.Trim(text, " \t")
	interpreter, argument, _ := strings.Cut(text, " ")
	switch {
	case !whole && len(line) > 250:
		return "its first line is too long for the kernel"
	case interpreter == "":
		return `it names no interpreter in its first line, after "#!"`
	case strings.HasSuffix(text, "\r"):
		return fmt.Sprintf("its first line ends like those of Windows, so that its interpreter is %q; convert it with dos2unix", interpreter)
	}
	if _, err := os.Stat(interpreter); err != nil {
		return fmt.Sprintf("its interpreter %q is missing", strings.TrimSpace(interpreter+" "+argument))
	}
	return ""
}

// The numbers of CPUs in ELF, for those that Go and engines run on.
var machines = map[uint16]struct{ name, arch string }{
	3: {"x86 (32 bit)", "386"}, 62: {"x86-64", "amd64"}, 40: {"ARM (32 bit)", "arm"}, 183: {"ARM64", "arm64"},
	243: {"RISC-V", "riscv64"}, 21: {"POWER", "ppc64le"}, 22: {"IBM Z", "s390x"}, 258: {"LoongArch", "loong64"},
}

// elf compares the CPU that a program was built for with this one, and looks for its loader. The file is not trusted: of
// its tables, as much is read as fits into the head.
func elf(head []byte, file io.ReaderAt) string {
	const machineAt, minimal = 18, 64
	if len(head) < minimal {
		return "it is a cut program: its header is not whole"
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == 2 {
		order = binary.BigEndian
	}
	if m, known := machines[order.Uint16(head[machineAt:])]; !known || m.arch != runtime.GOARCH {
		name := m.name
		if !known {
			name = fmt.Sprintf("another CPU (ELF machine %d)", order.Uint16(head[machineAt:]))
		}
		return fmt.Sprintf("it was built for %s, and this machine is %s", name, runtime.GOARCH)
	}
	if loader := loaderOf(head, order, file); loader != "" {
		if _, err := os.Stat(loader); err != nil {
			return fmt.Sprintf("its loader %q is missing; it was built for another C library or distribution", loader)
		}
	}
	return ""
}

// loaderOf reads PT_INTERP of a 64-bit program; "" when there is none.
func loaderOf(head []byte, order binary.ByteOrder, file io.ReaderAt) string {
	const interp, longest = 3, 4096
	if head[4] != 2 {
		return ""
	}
	at, size, count := order.Uint64(head[32:]), uint64(order.Uint16(head[54:])), uint64(order.Uint16(head[56:]))
	for i := range count {
		begin := at + i*size
		if size < 56 || begin < at || begin+56 > uint64(len(head)) {
			return ""
		}
		header := head[begin : begin+56]
		if order.Uint32(header) != interp {
			continue
		}
		offset, length := order.Uint64(header[8:]), order.Uint64(header[32:])
		if length == 0 || length > longest || offset > 1<<40 {
			return ""
		}
		text := make([]byte, length)
		if _, err := file.ReadAt(text, int64(offset)); err != nil {
			return ""
		}
		return string(bytes.TrimRight(text, "\x00"))
	}
	return ""
}

func isMachO(head []byte) bool {
	for _, magic := range []string{"\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return runtime.GOOS != "darwin"
		}
	}
	return false
}
