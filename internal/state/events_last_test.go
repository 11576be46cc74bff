package state

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLastEvent(t *testing.T) {
	t.Parallel()
	long := `{"seq":8,"message":"` + strings.Repeat("x", 100_000) + `"}` + "\n"
	for name, test := range map[string]struct {
		now, old string
		want     uint64 // 0: there is none
	}{
		"nothing":           {},
		"one":               {now: `{"seq":7}` + "\n", want: 7},
		"several":           {now: `{"seq":7}` + "\n" + `{"seq":9}` + "\n", want: 9},
		"a torn end":        {now: `{"seq":7}` + "\n" + `{"seq":9`, want: 7},
		"a long one":        {now: strings.Repeat(long, 5), want: 8},
		"rotated just now":  {old: `{"seq":7}` + "\n", want: 7},
		"rotated and empty": {now: "", old: `{"seq":7}` + "\n", want: 7},
		"no JSON":           {now: "hello\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range map[string]string{EventsName: test.now, OldEventsName: test.old} {
				if text == "" && file == OldEventsName {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var last struct{ Seq uint64 }
			if found := (Events{Dir: dir}).Last(&last); found != (test.want > 0) || last.Seq != test.want {
				t.Errorf("%d (found: %t), want %d", last.Seq, found, test.want)
			}
			// What Add writes next is the last one then.
			if err := (Events{Dir: dir}).Add(json.RawMessage(`{"seq":33}`)); err != nil {
				t.Fatal(err)
			}
			if (Events{Dir: dir}).Last(&last); last.Seq != 33 {
				t.Errorf("%d after the next", last.Seq)
			}
		})
	}
}
