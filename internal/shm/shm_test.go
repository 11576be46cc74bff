package shm

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParseMade(t *testing.T) {
	t.Parallel()
	const table = `55e0c9a00000-55e0c9a01000 r-xp 00000000 08:01 131 /usr/bin/python3 (not a /dev/shm/name)
7f0000000000-7f0000001000 rw-p 00000000 00:00 0
7f0000001000-7f0000002000 rw-s 00000000 00:1b 7                          /dev/shm/psm_1a2b
7f0000002000-7f0000003000 rw-s 00001000 00:1b 7                          /dev/shm/psm_1a2b
7f0000003000-7f0000004000 rw-s 00000000 00:1b 8                          /dev/shm/with space
7f0000004000-7f0000005000 rw-s 00000000 00:1b 9                          /dev/shm/gone (deleted)
7f0000005000-7f0000006000 rw-s 00000000 08:01 10                         /tmp/a /dev/shm/victim
7f0000006000-7f0000007000 rw-s 00000000 00:1b 11                         /dev/shm/new\012line
7f0000007000-7f0000008000 rw-s 00000000 00:01 12                         /SYSV00000000 (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
7f0000008000-7f0000009000 rw-s 00000000 00:1b 13                         /dev/shm/sub/folder
7f0000009000-7f000000a000 rw-s 00000000 00:1b 993                        /dev/shm/sem.oQjXVo (deleted)
7f000000a000-7f000000b000 r--s 00000000 00:1b 14                         /dev/shm/only read
7f000000b000-7f000000c000 rw-p 00000000 00:1b 15                         /dev/shm/a copy
7f000000c000-7f000000d000 r--s 00000000 00:1b 16                         /dev/shm/sem.read (deleted)
7f000000d000-7f000000e000 rw-s 00000000 00:1b 17                         /dev/shm/..
7f000000e000-7f000000f000 rwxs 00000000 00:1b 18                         /dev/shm/code
7f000000f000-7f0000010000 rw-s 00000000 00:1b 994                        /dev/shm/sem.mp-1a2b`
	want := map[file]string{
		{0, 0x1b, 7}: "/dev/shm/psm_1a2b", {0, 0x1b, 8}: "/dev/shm/with space", {0, 0x1b, 18}: "/dev/shm/code",
		{0, 0x1b, 994}: "/dev/shm/sem.mp-1a2b",
	}
	got, unnamed := parseMade(strings.NewReader(table))
	if !maps.Equal(got, want) || !slices.Equal(unnamed, []file{{0, 0x1b, 993}}) {
		t.Errorf("got  %v, %v\nwant %v", got, unnamed, want)
	}
	if got, _ := parseMade(strings.NewReader("/dev/shm/a\n a rw-s c /dev/shm/b\n" + strings.Repeat("x", 1<<20))); len(got) > 0 {
		t.Errorf("of garbage: %v", got)
	}
}

// FuzzParseMade holds that only objects directly below /dev/shm come back: files are removed by what it says.
func FuzzParseMade(f *testing.F) {
	f.Add([]byte("7f0000001000-7f0000002000 rw-s 00000000 00:1b 7      /dev/shm/psm_1a2b\n"))
	f.Add([]byte("7f0000001000-7f0000002000 rw-s 00000000 00:1b 7      /dev/shm/a (deleted)\n/dev/shm/b"))
	f.Add([]byte("a rw-s c 0:1 7 /tmp/ /dev/shm/x\na rw-s c 0:1 7 /dev/shm/ y\na rw-s c 0:1 7 /dev/shm/../etc\n"))
	f.Fuzz(func(t *testing.T, table []byte) {
		got, _ := parseMade(strings.NewReader(string(table)))
		for id, path := range got {
			name, below := strings.CutPrefix(path, "/dev/shm/")
			if !below || name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\n") || id.inode == 0 {
				t.Errorf("%q: %v is %q", table, id, path)
			}
		}
	})
}

func TestIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, object string
		want         bool
	}{
		{"/dev/shm/adapter.bin", "adapter.bin", true},
		{"/dev/shm/adapter.bin", "adapter.bin2", false},
		{"--lora=/dev/shm/adapter.bin", "adapter.bin", true},
		{"/dev/shm/adapter.bin:0.5,/dev/shm/other:1", "other", true},
		{`{"name": "x", "path": "/dev/shm/a, b:c.bin"}`, "a, b:c.bin", true},
		{"cd /tmp; exec server --state '/dev/shm/state'", "state", true},
		{"file:///dev/shm/state", "state", true},
		{"../dev/shm/state", "state", true}, // beside /tmp
		{"/dev/shm/./state", "state", true},
		{"/dev//shm/state", "state", true},
		{"/dev/shm/folder/state", "state", false}, // another file
		{"/tmp/state", "state", false},
		{"state", "state", false}, // below the working directory
		{"/dev/shm", "anything", true},
		{"--data-dir=/dev/shm/", "anything", true},
		{"", "state", false},
		{"/dev/shm/psm_1a2b\x00", "psm_1a2b", true},
		{strings.Repeat("/", 5000), "state", false},
	} {
		if got := isNamed(Named("/tmp", []string{"--parallel", c.text}), c.object); got != c.want {
			t.Errorf("%.80q names %q: %v", c.text, c.object, got)
		}
	}
	if got := Named("/tmp", []string{"--model", "/models/a.gguf", "--api-key-file", "key", "http://localhost:1/"}); got != nil {
		t.Errorf("kept of texts that name nothing there: %q", got)
	}
}
