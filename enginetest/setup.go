package enginetest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// setUp does what an engine does to its surroundings before it opens its port.
func (e *engine) setUp() error {
	if e.b.WipeEnviron {
		if err := wipeEnviron(); err != nil {
			return fmt.Errorf("cannot wipe the environment: %w", err)
		}
	}
	for _, c := range e.b.Children {
		pid, err := startChild(c, e.cookie)
		if err != nil {
			return err
		}
		e.children = append(e.children, pid)
	}
	if e.b.Shm > 0 {
		mapped, err := mapShm(fmt.Sprintf("/dev/shm/enginetest-%d", os.Getpid()), e.b.Shm)
		if err != nil {
			return fmt.Errorf("cannot map shared memory: %w", err)
		}
		e.keep = append(e.keep, mapped)
	}
	if e.b.TmpFiles {
		if err := e.leaveFiles(os.TempDir()); err != nil {
			return fmt.Errorf("cannot write into TMPDIR: %w", err)
		}
	}
	if e.b.MemoryHog > 0 {
		e.keep = append(e.keep, bytes.Repeat([]byte{1}, e.b.MemoryHog))
	}
	return nil
}

func (e *engine) leaveFiles(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "enginetest-file"), []byte("left behind\n"), 0o600); err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(dir, "enginetest.sock"))
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	e.keep = append(e.keep, l)
	return nil
}

// noise logs what the behaviour wants to be logged beside the usual.
func (e *engine) noise() {
	if e.b.LogSecret {
		e.log('I', "main: api_keys: %s", strings.Join(e.opts.keys, " "))
	}
	if e.b.LogEnv {
		for _, v := range os.Environ() {
			e.log('I', "main: env: %s", v)
		}
	}
	if e.b.LogANSI {
		e.log('W', "main: \x1b[1;31mred\x1b[0m \x1b]0;title\a ten %%\rtwenty %% \a\x00\xff")
	}
	if e.b.LogLine > 0 {
		_, _ = os.Stderr.Write(bytes.Repeat([]byte{'x'}, e.b.LogLine))
	}
	if e.b.LogFlood > 0 {
		go e.flood(e.b.LogFlood)
	}
}

// flood logs rate bytes a second, in numbered lines of 100 bytes.
func (e *engine) flood(rate int) {
	const size = 100
	rest := append(bytes.Repeat([]byte{'f'}, size-len("flood 000000000000 ")-1), '\n')
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	start, lines := time.Now(), 0
	var text []byte
	for range ticker.C {
		due := int(time.Since(start).Seconds() * float64(rate))
		text = text[:0]
		for ; (lines+1)*size <= due; lines++ {
			text = append(fmt.Appendf(text, "flood %012d ", lines), rest...)
		}
		_, _ = os.Stderr.Write(text)
	}
}
