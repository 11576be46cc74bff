package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

func testHandoff(generation int64) Handoff {
	return Handoff{
		Engine: "llamacpp", URL: "http://127.0.0.1:1", PoolID: "pool", ReplicaID: "r0", Flags: []string{"--model", "/m.gguf"},
		Schema: HandoffSchema, Generation: generation,
		Process: &HandoffProcess{PID: 2, StartTicks: 1<<63 + 1, LaunchID: "launch-" + strconv.FormatInt(generation, 10)},
	}
}

func testFiles(t *testing.T) state.Files {
	t.Helper()
	files := state.In(filepath.Join(t.TempDir(), "state"), "pool-r0")
	if err := files.Create(); err != nil {
		t.Fatal(err)
	}
	return files
}

func TestReadHandoff(t *testing.T) {
	t.Parallel()
	files := testFiles(t)
	if _, err := ReadHandoff(files.Handoff()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := files.Publish(testHandoff(1), state.Readers{}); err != nil {
		t.Fatal(err)
	}
	h, err := ReadHandoff(files.Handoff())
	if err != nil || h.Process.StartTicks != 1<<63+1 {
		t.Errorf("%+v, %v", h, err)
	}
	for content, text := range map[string]string{
		"{":                              "cannot read the handoff",
		"{}":                             "no url, pool_id or replica_id",
		`{"url":1}`:                      "cannot read the handoff",
		`{"url":"u","pool_id":"p"}`:      "no url, pool_id or replica_id",
		string(make([]byte, (1<<20)+10)): "larger than 1 MiB",
	} {
		if err := os.WriteFile(files.Handoff(), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadHandoff(files.Handoff())
		wantText(t, err, text)
	}
	// A newer version may say more.
	newer := `{"url":"u","pool_id":"p","replica_id":"r","schema":7,"weather":"fine"}`
	if err := os.WriteFile(files.Handoff(), []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err := ReadHandoff(files.Handoff()); err != nil || h.Schema != 7 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestUnpublishSparesALaterLaunch(t *testing.T) {
	t.Parallel()
	files := testFiles(t)
	later := testHandoff(2)
	if err := files.Publish(later, state.Readers{}); err != nil {
		t.Fatal(err)
	}
	if err := files.Unpublish("launch-1"); err != nil {
		t.Error(err)
	}
	if _, err := ReadHandoff(files.Handoff()); err != nil {
		t.Errorf("the later launch's handoff is gone: %v", err)
	}
	if err := files.Unpublish("launch-2"); err != nil {
		t.Error(err)
	}
	if err := files.Unpublish("launch-2"); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := os.Stat(files.Handoff()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	if err := os.WriteFile(files.Handoff(), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := files.Unpublish("launch-3"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(files.Handoff()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("garbage stays: %v", err)
	}
}

// A reader sees one version or the other, never a mixture, however often the file is replaced.
func TestReadersNeverSeeHalfAFile(t *testing.T) {
	t.Parallel()
	files := testFiles(t)
	if err := files.Publish(testHandoff(0), state.Readers{}); err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 4, 250
	var writing, reading sync.WaitGroup
	var done atomic.Bool
	var reads atomic.Int64
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				if err := files.Publish(testHandoff(int64(w*rounds+i)), state.Readers{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 4 {
		reading.Go(func() {
			for !done.Load() {
				h, err := ReadHandoff(files.Handoff())
				if err != nil || h.Process.LaunchID != "launch-"+strconv.FormatInt(h.Generation, 10) {
					t.Errorf("torn: %+v, %v", h, err)
					return
				}
				reads.Add(1)
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
	t.Logf("%d writes, %d reads, 0 torn", writers*rounds, reads.Load())
	if left, _ := filepath.Glob(filepath.Join(files.Handoffs(), atomicfile.TempPattern)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func next(t *testing.T, events <-chan HandoffEvent) HandoffEvent {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return e
	case <-time.After(patience):
		t.Fatal("no event")
		return HandoffEvent{}
	}
}

func TestWatchHandoffs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(bounded(t))
	files := state.In(filepath.Join(t.TempDir(), "state"), "pool-r0")
	events, err := WatchHandoffs(ctx, files.Handoffs())
	if err != nil {
		t.Fatal(err)
	}
	// The folder comes into being after the watch.
	if err := errors.Join(files.Create(), files.Publish(testHandoff(1), state.Readers{})); err != nil {
		t.Fatal(err)
	}
	if e := next(t, events); e.Handoff.Generation != 1 || e.Path != files.Handoff() || e.Removed || e.Err != nil {
		t.Errorf("published: %+v", e)
	}
	if err := files.Publish(testHandoff(2), state.Readers{}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, events); e.Handoff.Generation != 2 {
		t.Errorf("replaced: %+v", e)
	}
	if err := files.Unpublish(""); err != nil {
		t.Fatal(err)
	}
	// A router need not remember which replica a path was of.
	if e := next(t, events); !e.Removed || e.Path != files.Handoff() || e.Handoff.Generation != 2 || e.Handoff.PoolID == "" {
		t.Errorf("removed: %+v", e)
	}
	if err := os.WriteFile(files.Handoff(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Another program's write is not atomic: the empty file may be seen first.
	for {
		e := next(t, events)
		if e.Err == nil {
			t.Errorf("damaged: %+v", e)
		}
		if string(mustRead(t, e.Path)) == "{" {
			break
		}
	}
	if err := files.Unpublish(""); err != nil {
		t.Fatal(err)
	}
	for {
		e := next(t, events)
		if e.Err != nil {
			continue
		}
		if !e.Removed || e.Path != files.Handoff() || e.Handoff.PoolID != "" {
			t.Errorf("removed: %+v", e)
		}
		break
	}
	cancel()
	for range events {
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWatchFindsWhatIsThere(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(bounded(t))
	files := testFiles(t)
	other := state.In(files.State, "pool-r1")
	if err := errors.Join(files.Publish(testHandoff(1), state.Readers{}), other.Publish(testHandoff(2), state.Readers{}),
		os.WriteFile(filepath.Join(files.Handoffs(), ".tmp-1"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	events, err := WatchHandoffs(ctx, files.Handoffs())
	if err != nil {
		t.Fatal(err)
	}
	sum := next(t, events).Handoff.Generation + next(t, events).Handoff.Generation
	if sum != 3 {
		t.Errorf("generations add up to %d", sum)
	}
	cancel()
	for e := range events {
		t.Errorf("one more: %+v", e)
	}
}

func TestHandoffJSON(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(testHandoff(1))
	if err != nil {
		t.Fatal(err)
	}
	// 64-bit numbers are text, since other languages read numbers as float64.
	if want := `"start_ticks":"9223372036854775809"`; !json.Valid(data) || !strings.Contains(string(data), want) {
		t.Errorf("%s lacks %s", data, want)
	}
}
