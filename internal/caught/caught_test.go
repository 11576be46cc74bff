package caught

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
)

func TestInto(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	work := func(do func()) (err error) {
		defer Into(&err, logger, "chat/r0")
		do()
		return fs.ErrExist
	}
	if err := work(func() {}); !errors.Is(err, fs.ErrExist) || log.Len() > 0 {
		t.Errorf("without a panic: %v, %q", err, log.String())
	}
	var none []int
	for text, do := range map[string]func(){
		"index out of range [3] with length 0": func() { none[3]++ },
		"no such thing":                        func() { panic("no such\x1b[2J thing") },
		"file does not exist":                  func() { panic(fs.ErrNotExist) },
	} {
		log.Reset()
		var p *PanicError
		err := work(do)
		if !errors.As(err, &p) || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%v", err)
		}
		if said := strings.ReplaceAll(err.Error(), "  ", " "); !strings.Contains(said, text) || !strings.Contains(said, "report it") {
			t.Errorf("%v, want %q", err, text)
		}
		if !strings.Contains(log.String(), "caught_test.go") || !strings.Contains(log.String(), "chat/r0") {
			t.Errorf("the log has no stack: %s", log.String())
		}
	}
}
