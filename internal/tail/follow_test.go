package tail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// lines are numbered lines of 16 bytes.
func lines(from, to int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, "line %010d\n", n)
	}
	return b.String()
}

func follow(t *testing.T, path string, n int) *Follower {
	t.Helper()
	f, err := Follow(path, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// rest reads what there is to read now.
func rest(t *testing.T, f *Follower) string {
	t.Helper()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestFollowLastLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 40<<10) + "\n"
	for _, c := range []struct {
		name, text string
		n          int
		want       string
	}{
		{"all", "a\nb\n", -1, "a\nb\n"},
		{"none", "a\nb\n", 0, ""},
		{"one", "a\nb\n", 1, "b\n"},
		{"two of three", "a\nb\nc\n", 2, "b\nc\n"},
		{"more than there are", "a\nb\n", 5, "a\nb\n"},
		{"without an end", "a\nb", 1, "b"},
		{"empty lines", "a\n\n\n", 2, "\n\n"},
		{"empty", "", 3, ""},
		{"longer than the buffer", "a\n" + long + long, 2, long + long},
	} {
		if got := rest(t, follow(t, write(t, c.text), c.n)); got != c.want {
			t.Errorf("%s: got %.40q, want %.40q", c.name, got, c.want)
		}
	}
	if _, err := Follow(t.TempDir()+"/none", 0); err == nil {
		t.Error("a log that is not there was opened")
	}
}

// TestFollowCut follows a log whose beginning is taken away: by whole blocks the place is found again, also when the
// log has meanwhile grown beyond it; otherwise it goes on with what is there.
func TestFollowCut(t *testing.T) {
	t.Parallel()
	const all = 4 << 10 // lines, 64 KiB
	for _, c := range []struct {
		name  string
		then  string // the whole content after the cut
		want  string
		after string // what is appended, and read
	}{
		{"only grown", lines(0, all+10), lines(all, all+10), "x\n"},
		{"cut", lines(2048, all), "", "x\n"},
		{"cut and grown", lines(2048, all+10), lines(all, all+10), "x\n"},
		{"cut and grown beyond", lines(256, 2*all), lines(all, 2*all), "x\n"},
		{"cut too far", lines(all+256, all+512), lines(all+257, all+512), "x\n"},
		{"emptied", "", "", "x\ny\n"},
	} {
		path := write(t, lines(0, all))
		f := follow(t, path, -1)
		if got := rest(t, f); got != lines(0, all) {
			t.Fatalf("%s: at first %d bytes", c.name, len(got))
		}
		if err := os.WriteFile(path, []byte(c.then), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := rest(t, f); got != c.want {
			t.Errorf("%s: %d bytes %.40q, want %d %.40q", c.name, len(got), got, len(c.want), c.want)
		}
		appendTo(t, path, c.after)
		want := c.after
		if c.then == "" {
			want = "y\n" // the first line may have lost its beginning
		}
		if got := rest(t, f); got != want {
			t.Errorf("%s: then %.40q, want %.40q", c.name, got, want)
		}
	}
}

// TestFollowPartialLine: a line whose end was cut away is ended, and another begins.
func TestFollowPartialLine(t *testing.T) {
	t.Parallel()
	path := write(t, "one\ntw")
	f := follow(t, path, -1)
	if got := rest(t, f); got != "one\ntw" {
		t.Fatalf("%q", got)
	}
	if err := os.WriteFile(path, []byte("ut\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, f); got != "\nthree\n" {
		t.Errorf("got %q", got)
	}
}

func TestFollowReplacedFile(t *testing.T) {
	t.Parallel()
	path := write(t, "old\nold with no end")
	f := follow(t, path, 1)
	if got := rest(t, f); got != "old with no end" {
		t.Fatalf("%q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, f); got != "" {
		t.Errorf("of a removed file: %q", got)
	}
	if err := os.WriteFile(path, []byte("new and longer than the old one was\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, f); got != "\nnew and longer than the old one was\n" {
		t.Errorf("got %q", got)
	}
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
