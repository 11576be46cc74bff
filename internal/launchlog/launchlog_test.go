package launchlog

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNeighbour(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"3.log", "9.log", "10.log", "x.log", "8.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		of   string
		step int
		want string
	}{{"9.log", -1, "3.log"}, {"9.log", 1, "10.log"}, {"10.log", -1, "9.log"}, {"10.log", 1, ""}, {"3.log", -1, ""}, {"4.log", 1, "9.log"}} {
		got, err := Neighbour(filepath.Join(dir, c.of), c.step)
		if err != nil || got != "" && filepath.Base(got) != c.want || got == "" && c.want != "" {
			t.Errorf("%d from %s: %q (%v), want %q", c.step, c.of, got, err, c.want)
		}
	}
	if _, err := Neighbour(filepath.Join(dir, "none", "1.log"), 1); err == nil {
		t.Error("a folder that is not there has logs")
	}
}

func TestPrinter(t *testing.T) {
	t.Parallel()
	log := &bytes.Buffer{}
	var out bytes.Buffer
	p := Printer{path: "logs/7.log", r: bufio.NewReader(log), Write: func(launch int64, line string) error {
		if launch != 7 {
			t.Errorf("a line of launch %d", launch)
		}
		_, err := out.WriteString(line + "\n")
		return err
	}}
	step := func(text string, complete bool, want string) {
		t.Helper()
		log.WriteString(text)
		out.Reset()
		if err := p.Print(complete); err != nil || out.String() != want {
			t.Errorf("after %.40q: %.40q and %v, want %.40q", text, out.String(), err, want)
		}
	}
	step("one\ntw", false, "one\n")
	step("o\n\n", false, "two\n\n")
	step("\x1b]0;title\a\x1b[31mred\x1b[0m\r\n", false, "red\n")
	step(strings.Repeat("x", maxLogLine+4096), false, strings.Repeat("x", maxLogLine)+"\n")
	step("the end", true, strings.Repeat("x", 4096)+"the end\n")
	step("", true, "")
}
