package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

func TestSkipTo(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 40<<10) + "\n"
	tests := []struct {
		name, text string
		n          int
		want       string
	}{
		{"none", "a\nb\n", 0, ""},
		{"one", "a\nb\n", 1, "b\n"},
		{"two of three", "a\nb\nc\n", 2, "b\nc\n"},
		{"more than there are", "a\nb\n", 5, "a\nb\n"},
		{"without an end", "a\nb", 1, "b"},
		{"empty lines", "a\n\n\n", 2, "\n\n"},
		{"empty", "", 3, ""},
		{"longer than the buffer", "a\n" + long + long, 2, long + long},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, err := os.Open(writeLog(t, tt.text))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := skipTo(f, tt.n); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(f)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %.40q and %v, want %.40q", got, err, tt.want)
			}
		})
	}
}

func TestPrinter(t *testing.T) {
	t.Parallel()
	log := &bytes.Buffer{}
	var out bytes.Buffer
	p := printer{w: &out, r: bufio.NewReader(log)}
	step := func(text string, complete bool, want string) {
		t.Helper()
		log.WriteString(text)
		out.Reset()
		if err := p.print(complete); err != nil || out.String() != want {
			t.Errorf("after %.40q: %.40q and %v, want %.40q", text, out.String(), err, want)
		}
	}
	step("one\ntw", false, "one\n")
	step("o\n\n", false, "two\n\n")
	step("\x1b]0;title\a\x1b[31mred\x1b[0m\r\n", false, "red\n")
	step(strings.Repeat("x", maxLogLine+4096), false, strings.Repeat("x", maxLogLine)+"\n")
	step("the end", true, strings.Repeat("x", 4096)+"the end\n")
	step("", true, "")
	p.pool, p.replica = "default", "r0"
	step("\"quoted\" <html>\n", false, `{"pool":"default","replica":"r0","line":"\"quoted\" <html>"}`+"\n")
}

func TestRunHere(t *testing.T) {
	t.Parallel()
	status, stdout, stderr := runHere(t, "version")
	if status != 0 || !strings.HasPrefix(stdout, "engine-provisioner ") || stderr != "" {
		t.Errorf("version: %d, %q, %q", status, stdout, stderr)
	}
	status, stdout, stderr = runHere(t, "nothing", "--output", "json")
	if status != 2 || !strings.Contains(stderr+stdout, `unknown command \"nothing\"`) {
		t.Errorf("unknown command: %d, %q, %q", status, stdout, stderr)
	}
}
