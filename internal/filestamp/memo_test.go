package filestamp_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/filestamp"
)

// A file is read again when another has taken its name, and an error is not kept.
func TestMemo(t *testing.T) {
	t.Parallel()
	path, reads := filepath.Join(t.TempDir(), "file"), 0
	var memo filestamp.Memo[string]
	get := func() (string, error) {
		return memo.Get(path, func() (string, error) {
			reads++
			data, err := os.ReadFile(path)
			return string(data), err
		})
	}
	replace := func(text string) {
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		do    func()
		want  string
		gone  bool
		reads int
	}{
		{do: func() {}, gone: true, reads: 1},
		{do: func() { replace("one") }, want: "one", reads: 2},
		{do: func() {}, want: "one", reads: 2},
		{do: func() { replace("two") }, want: "two", reads: 3},
		{do: func() {}, want: "two", reads: 3},
		{do: func() { _ = os.Remove(path) }, gone: true, reads: 4},
		{do: func() { replace("two") }, want: "two", reads: 5},
	} {
		c.do()
		got, err := get()
		if got != c.want || errors.Is(err, fs.ErrNotExist) != c.gone || reads != c.reads {
			t.Errorf("got %q (%v) after %d reads, want %q after %d", got, err, reads, c.want, c.reads)
		}
	}
}
