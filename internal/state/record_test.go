package state

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// The caller's record comes back as it was written, and says nothing where it is somebody else's.
func TestRecord(t *testing.T) {
	t.Parallel()
	f := In(t.TempDir(), "pool-r0")
	read := func(f Files) (got map[string]any, err error) {
		return ReadRecord(f, func(data []byte, _ int) (got map[string]any, head Head, err error) {
			err = errors.Join(json.Unmarshal(data, &got), json.Unmarshal(data, &head))
			return got, head, err
		})
	}
	if _, err := read(f); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if err := f.Create(); err != nil {
		t.Fatal(err)
	}
	write := func(record any, how Keeping) {
		t.Helper()
		if err := f.ChangeRecord(func() (any, Keeping) { return record, how }); err != nil {
			t.Fatal(err)
		}
	}
	record := map[string]any{"schema": RecordSchema, "launch_id": "a", "pool": "pool", "replica": "r0", "state": "failed", "beside": "kept"}
	write(record, Lasts)
	write(map[string]any{}, Nothing)
	for _, f := range []Files{f, In(f.State, f.Stem)} { // as it was written, and as it was read
		if got, err := read(f); err != nil || got["beside"] != "kept" {
			t.Errorf("%v, %v", got, err)
		}
	}
	if head, err := f.Head(); err != nil || !head.Over() || !head.Failed() || head.LaunchID != "a" {
		t.Errorf("%+v, %v", head, err)
	}
	for key, c := range map[string]struct {
		value any
		want  string
	}{
		"schema":    {RecordSchema + 1, "newer version"},
		"replica":   {"r1", `not the record of "pool-r0"`},
		"launch_id": {7, "remove the file"},
		"state":     {"starting", ""},
	} {
		other := map[string]any{}
		for k, v := range record {
			other[k] = v
		}
		other[key] = c.value
		write(other, Passes)
		head, err := f.Head()
		switch {
		case c.want == "" && (err != nil || head.Over()):
			t.Errorf("%s: %+v, %v", key, head, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", key, err, c.want)
		case errors.Is(err, ErrNewer) != (key == "schema"):
			t.Errorf("%s: %v", key, err)
		}
	}
}

// A handoff is removed by its launch, and one that cannot be read by everybody.
func TestUnpublish(t *testing.T) {
	t.Parallel()
	f := In(t.TempDir(), "pool-r0")
	if err := errors.Join(f.Create(), f.Unpublish("a")); err != nil {
		t.Fatal(err)
	}
	handoff := func(launch string) map[string]any {
		return map[string]any{"url": "u", "pool_id": "pool", "replica_id": "r0", "process": map[string]any{"launch_id": launch}}
	}
	for _, c := range []struct {
		what   any
		launch string
		stays  bool
	}{
		{handoff("a"), "a", false},
		{handoff("b"), "a", true},
		{handoff("b"), "", false},
		{map[string]any{"url": "u"}, "a", false},
	} {
		if err := errors.Join(f.Publish(c.what, Readers{}), f.Unpublish(c.launch)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(f.Handoff()); (err == nil) != c.stays {
			t.Errorf("%v for %q: %v", c.what, c.launch, err)
		}
	}
}

// A record that a loss of power has emptied is none: nothing of its launch runs. One that was emptied since is told.
func TestHollowRecord(t *testing.T) {
	t.Parallel()
	if _, err := procfs.Uptime(); err != nil {
		host.Skip(t, "nobody says when this machine was booted: "+err.Error())
	}
	for name, c := range map[string]struct {
		text string
		at   time.Time
		none bool
	}{
		"nothing, of an earlier boot": {"", time.Unix(1, 0), true},
		"zeros, of an earlier boot":   {"\x00\x00\x00", time.Unix(1, 0), true},
		"half, of an earlier boot":    {`{"schema": 2, "sta`, time.Unix(1, 0), false},
		"nothing, of this boot":       {"", time.Now(), false},
		"zeros, of this boot":         {"\x00\x00\x00", time.Now(), false},
	} {
		f := In(t.TempDir(), "pool-r0")
		err := errors.Join(f.Create(), os.WriteFile(f.Record(), []byte(c.text), 0o600), os.Chtimes(f.Record(), c.at, c.at))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Head(); err == nil || errors.Is(err, fs.ErrNotExist) != c.none {
			t.Errorf("%s: %v", name, err)
		}
	}
}
