package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/llama-orch/engine-provisioner/internal/hubtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("FETCH_CHILD"); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

const repo, name = "org/model", "model.gguf"

// bench is a hub with one file, and a place for it.
type bench struct {
	*hubtest.Hub
	content []byte
	file    File
}

func newBench(t testing.TB, size int) *bench {
	t.Helper()
	content := make([]byte, size)
	random := rand.New(rand.NewPCG(uint64(size), 1))
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	b := &bench{Hub: hubtest.New(), content: content}
	t.Cleanup(b.Close)
	b.Add(repo, name, content)
	b.file = File{
		URL:        b.API.URL + "/" + repo + "/resolve/main/" + name,
		Path:       filepath.Join(t.TempDir(), "model"),
		Digest:     digestOf(content),
		Stall:      10 * time.Second,
		minRange:   64 << 10,
		retryFloor: time.Millisecond,
	}
	return b
}

func digestOf(content []byte) Digest {
	sum := sha256.Sum256(content)
	return SHA256(hex.EncodeToString(sum[:]))
}

// check downloads, and sees that the file is there and nothing beside it but the lock.
func (b *bench) check(t *testing.T) {
	t.Helper()
	if err := Download(t.Context(), b.file); err != nil {
		t.Fatal(err)
	}
	b.checkFile(t)
}

func (b *bench) checkFile(t *testing.T) {
	t.Helper()
	got, err := os.ReadFile(b.file.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b.content) {
		t.Fatalf("the file has %d bytes that differ from the %d of the server", len(got), len(b.content))
	}
	b.checkFolder(t, "model", "model.lock")
}

func (b *bench) checkFolder(t *testing.T, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(b.file.Path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("the folder holds %v, want %v", names, want)
	}
}

// ranges are what the CDN was asked for.
func (b *bench) ranges() []string {
	var all []string
	for _, r := range b.Requests() {
		if r.CDN {
			all = append(all, r.Header.Get("Range"))
		}
	}
	return all
}

func TestParallelRanges(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1<<20)
	var last Progress
	b.file.Progress = func(p Progress) { last = p }
	b.file.Token = "hf_secret"
	b.check(t)
	if n := len(b.ranges()); n != 17 { // a probe, and 16 ranges of 64 KiB
		t.Errorf("the CDN was asked %d times: %v", n, b.ranges())
	}
	if last.Done != 1<<20 || last.Total != 1<<20 || last.Rate <= 0 || last.Waiting {
		t.Errorf("last progress = %+v", last)
	}
	b.check(t) // nothing to do
	if n := len(b.ranges()); n != 17 {
		t.Error("a file that is there was asked for")
	}
	for _, r := range b.Requests() {
		if r.CDN && (r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "") {
			t.Error("the token or the hub's URL followed the redirect to another host")
		}
		if !r.CDN && r.Header.Get("Authorization") != "Bearer hf_secret" {
			t.Error("the hub did not get the token")
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault hubtest.Fault
		stall time.Duration
	}{
		"ranges ignored":       {fault: hubtest.NoRanges},
		"cut connections":      {fault: hubtest.Times(9, hubtest.Cut(20<<10))},
		"always cut":           {fault: hubtest.Cut(50 << 10)}, // every connection brings something
		"rate limit":           {fault: hubtest.Times(2, hubtest.Status(429, "1"))},
		"busy":                 {fault: hubtest.Times(3, hubtest.Status(503, ""))},
		"body that stands":     {fault: hubtest.Times(4, hubtest.Hang(10<<10)), stall: 50 * time.Millisecond},
		"cut, without ranges":  {fault: both(hubtest.Times(1, hubtest.Cut(100<<10)), hubtest.NoRanges)},
		"without a size":       {fault: chunked},
		"replaced on the way":  {fault: newETag(1)},
		"ETags that disagree":  {fault: newETag(2)},
		"a range that is full": {fault: hubtest.Times(3, hubtest.Cut(64<<10-1))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 300<<10)
			b.Inject(c.fault)
			if c.stall > 0 {
				b.file.Stall = c.stall
			}
			start := time.Now()
			b.check(t)
			if name == "rate limit" && time.Since(start) < time.Second {
				t.Error("Retry-After was not heeded")
			}
		})
	}
}

func both(faults ...hubtest.Fault) hubtest.Fault {
	return func(w http.ResponseWriter, r *http.Request, cdn bool, next http.Handler) bool {
		for _, f := range faults {
			if f(w, r, cdn, next) {
				return true
			}
		}
		return false
	}
}

// chunked serves without a length, and so without ranges.
func chunked(w http.ResponseWriter, r *http.Request, cdn bool, next http.Handler) bool {
	if !cdn {
		return false
	}
	answer := httptest.NewRecorder()
	r.Header.Del("Range")
	next.ServeHTTP(answer, r)
	for b := answer.Body.Bytes(); len(b) > 0; b = b[min(len(b), 10000):] {
		_, _ = w.Write(b[:min(len(b), 10000)])
		_ = http.NewResponseController(w).Flush()
	}
	return true
}

// trickle sends a byte of each content now and then.
func trickle(every time.Duration) hubtest.Fault {
	return func(w http.ResponseWriter, r *http.Request, cdn bool, next http.Handler) bool {
		if !cdn {
			return false
		}
		next.ServeHTTP(trickling{w, r.Context(), every}, r)
		return true
	}
}

type trickling struct {
	http.ResponseWriter
	ctx   context.Context
	every time.Duration
}

func (w trickling) Write(b []byte) (int, error) {
	for i := range b {
		select {
		case <-w.ctx.Done():
			return i, w.ctx.Err()
		case <-time.After(w.every):
		}
		if _, err := w.ResponseWriter.Write(b[i : i+1]); err != nil {
			return i, err
		}
		w.ResponseWriter.(http.Flusher).Flush()
	}
	return len(b), nil
}

// newETag gives the file another ETag after the probe, or with every so many requests.
func newETag(every int64) hubtest.Fault {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, cdn bool, next http.Handler) bool {
		if !cdn {
			return false
		}
		if i := n.Add(1); i == 1 || every > 1 && i%every == 0 {
			next.ServeHTTP(etagWriter{w}, r)
			return true
		}
		return false
	}
}

type etagWriter struct{ http.ResponseWriter }

func (w etagWriter) WriteHeader(code int) {
	w.Header().Set("Etag", `"old"`)
	w.ResponseWriter.WriteHeader(code)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(b *bench)
		want   string
		left   bool // a part, for another run
	}{
		"wrong checksum": {
			change: func(b *bench) { b.Inject(hubtest.Damage) },
			want:   "the content has the checksum sha256:",
		},
		"not found": {
			change: func(b *bench) { b.file.URL = b.API.URL + "/" + repo + "/resolve/main/other?token=secret" },
			want:   `other: 127.0.0.1:PORT answers 404 Not Found: "Entry not found"`,
		},
		"token": {
			change: func(b *bench) { b.RequireToken("hf_right"); b.file.Token = "hf_secret" },
			want:   `127.0.0.1:PORT answers 401 Unauthorized: "Repository Not Found"`,
		},
		"forbidden": {
			change: func(b *bench) { b.Inject(hubtest.Status(403, "")) },
			want:   "127.0.0.1:PORT answers 403 Forbidden",
		},
		"too long a wait": {
			change: func(b *bench) { b.Inject(hubtest.Status(429, "3600")) },
			want:   "answers 429 Too Many Requests, and that it must not be asked again for 1h0m0s; try again then",
		},
		"too large": {
			change: func(b *bench) { b.file.MaxSize = 1000 },
			want:   "it has 307 kB, more than the 1.0 kB that are allowed",
		},
		"too large, without a size": {
			change: func(b *bench) { b.file.MaxSize = 1000; b.Inject(chunked) },
			want:   "it has more than the 1.0 kB that are allowed",
			left:   true,
		},
		"other size": {
			change: func(b *bench) { b.file.Size = 5 },
			want:   "it has 307200 bytes, but should have 5",
		},
		"dead server": {
			change: func(b *bench) { b.CDN.Close() },
			want:   "connection refused",
		},
		"a trickle that never stalls": {
			change: func(b *bench) {
				b.Inject(trickle(5 * time.Millisecond))
				b.file.MinPerMinute, b.file.minute, b.file.Stall = 100<<10, 100*time.Millisecond, 10*time.Second
			},
			want: `less than the 102 kB a minute of "download.min_per_minute"`,
			left: true,
		},
		"longer than it may take": {
			change: func(b *bench) { b.Inject(trickle(5 * time.Millisecond)); b.file.Timeout = 2 * time.Second },
			want:   "it is not done after 2s; what came is kept",
			left:   true,
		},
		"dead body": {
			change: func(b *bench) { b.Inject(hubtest.Hang(0)); b.file.Stall = 20 * time.Millisecond },
			want:   "the connection broke: nothing came for 20ms",
		},
		"plain http": {
			change: func(b *bench) { b.file.URL = "http://user:secret@models.example/f?key=secret" },
			want:   `"http://models.example/f" is not https, which only a loopback address may do without`,
		},
		"redirect to plain http": {
			change: func(b *bench) {
				b.Inject(func(w http.ResponseWriter, r *http.Request, _ bool, _ http.Handler) bool {
					http.Redirect(w, r, "http://models.example/f?key=secret", http.StatusFound)
					return true
				})
			},
			want: `cannot follow a redirect: "http://models.example/f" is not https`,
		},
		"endless redirects": {
			change: func(b *bench) {
				b.Inject(func(w http.ResponseWriter, r *http.Request, _ bool, _ http.Handler) bool {
					http.Redirect(w, r, r.URL.Path+"?key=secret", http.StatusFound)
					return true
				})
			},
			want: "cannot follow a redirect: there were ten already",
		},
		"no such host": {
			change: func(b *bench) { b.file.URL = "https://user:secret@models.invalid/f?key=secret" },
			want:   "cannot download https://models.invalid/f: ",
		},
		"no room": {
			change: func(b *bench) { b.file.Size = 0; b.Inject(huge) },
			want:   "1.0 TB more must fit into",
		},
		"bad checksum": {
			change: func(b *bench) { b.file.Digest = "sha256:12" },
			want:   `"sha256:12" is no checksum`,
		},
		"folder in the way": {
			change: func(b *bench) { _ = os.Mkdir(b.file.Path, 0o700) },
			want:   "is in the way: it is no regular file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 300<<10)
			c.change(b)
			err := Download(t.Context(), b.file)
			if err == nil {
				t.Fatal("no error")
			}
			text := strings.NewReplacer(host(b.API.URL), "127.0.0.1:PORT", host(b.CDN.URL), "127.0.0.1:PORT").Replace(err.Error())
			if !strings.Contains(text, c.want) {
				t.Errorf("error = %q, want it to contain %q", text, c.want)
			}
			for _, secret := range []string{"secret", hubtest.Signature} {
				if strings.Contains(text, secret) {
					t.Errorf("error = %q, which tells a secret", text)
				}
			}
			if info, err := os.Stat(b.file.Path); err == nil && info.Mode().IsRegular() {
				t.Error("the file got its name")
			}
			_, err = os.Stat(b.file.Path + PartSuffix)
			if left := err == nil; left != c.left {
				t.Errorf("something is kept for another run: %v, want %v", left, c.left)
			}
		})
	}
}

func host(url string) string { return strings.TrimPrefix(url, "http://") }

// huge says that the file has a terabyte.
func huge(w http.ResponseWriter, _ *http.Request, cdn bool, _ http.Handler) bool {
	if !cdn {
		return false
	}
	w.Header().Set("Content-Range", "bytes 0-0/1000000000000")
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write([]byte{0})
	return true
}

// TestResume ends a download midway and continues it; what is there is not asked for again.
func TestResume(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1<<20)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	b.Inject(hubtest.Times(4, hubtest.Hang(40<<10)))
	b.file.Progress = func(p Progress) {
		if p.Done >= 160<<10 {
			cancel(enough)
		}
	}
	if err := Download(ctx, b.file); !errors.Is(err, enough) {
		t.Fatalf("error = %v, want the context's cause", err)
	}
	b.checkFolder(t, "model.lock", "model.part", "model.part.json")
	asked := len(b.ranges())
	var first atomic.Int64
	b.file.Progress = func(p Progress) { first.CompareAndSwap(0, p.Done) }
	b.check(t)
	if first.Load() < 160<<10 {
		t.Errorf("the second run began with %d bytes", first.Load())
	}
	for _, r := range b.ranges()[asked+1:] {
		for i := range 4 {
			if strings.HasPrefix(r, fmt.Sprintf("bytes=%d-", i*64<<10)) {
				t.Errorf("the second run asked for %s, whose beginning was there", r)
			}
		}
	}
}

// TestDamagedPart has a part whose bytes are not those that its state counts, as after a loss of power.
func TestDamagedPart(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, b *bench){
		"lost bytes": func(t *testing.T, b *bench) {
			f, err := os.OpenFile(b.file.Path+PartSuffix, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(make([]byte, 1000), 10); err != nil {
				t.Fatal(err)
			}
		},
		"short file": func(t *testing.T, b *bench) {
			if err := os.Truncate(b.file.Path+PartSuffix, 10); err != nil {
				t.Fatal(err)
			}
		},
		"no state": func(t *testing.T, b *bench) {
			if err := os.Remove(b.file.Path + stateSuffix); err != nil {
				t.Fatal(err)
			}
		},
		"torn state": func(t *testing.T, b *bench) {
			if err := os.WriteFile(b.file.Path+stateSuffix, []byte(`{"digest": "sha`), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"state of lies": func(t *testing.T, b *bench) {
			text := fmt.Sprintf(`{"digest": %q, "size": %d, "ranges": [0, 5], "done": [9, -1]}`, b.file.Digest, len(b.content))
			if err := os.WriteFile(b.file.Path+stateSuffix, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 300<<10)
			b.Inject(hubtest.Times(20, hubtest.Cut(20<<10)))
			ctx, cancel := context.WithCancel(t.Context())
			b.file.Progress = func(Progress) { cancel() }
			b.file.retryFloor = time.Second // the first progress comes before the second try
			if err := Download(ctx, b.file); err == nil {
				t.Fatal("it was not interrupted")
			}
			damage(t, b)
			b.file.Progress = nil
			b.file.retryFloor = time.Millisecond
			b.check(t)
		})
	}
}

func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, 300<<10)
	release := make(chan struct{})
	b.Inject(hubtest.Times(1, func(_ http.ResponseWriter, r *http.Request, cdn bool, _ http.Handler) bool {
		if cdn {
			<-release
		}
		return false
	}))
	var wg sync.WaitGroup
	var waiting atomic.Int64
	var once sync.Once
	b.file.Progress = func(p Progress) {
		if p.Waiting && waiting.Add(1) == 3 {
			once.Do(func() { close(release) })
		}
	}
	for range 4 {
		wg.Go(func() {
			if err := Download(t.Context(), b.file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b.checkFile(t)
	if n := len(b.ranges()); n != 6 { // a probe and 5 ranges
		t.Errorf("the CDN was asked %d times", n)
	}
	unlock, err := Lock(t.Context(), b.file.Path+".lock", func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Lock(ctx, b.file.Path+".lock", cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want the context's", err)
	}
}

func TestGitBlob(t *testing.T) {
	t.Parallel()
	b := newBench(t, 10)
	b.AddSmall(repo, "config.json", []byte("hello\n"))
	b.content = []byte("hello\n")
	b.file.URL = b.API.URL + "/" + repo + "/resolve/main/config.json"
	b.file.Digest, b.file.Size = "git:ce013625030ba8dba906f756967f9e9ca394464a", 6
	b.check(t)
	b.file.Path += ".other"
	b.file.Digest = "git:" + Digest(strings.Repeat("0", 40))
	var wrong *DigestError
	if err := Download(t.Context(), b.file); !errors.As(err, &wrong) {
		t.Errorf("error = %v, want a *DigestError", err)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	b := newBench(t, 10)
	url := b.API.URL + "/api/models/" + repo + "/revision/main?blobs=true"
	data, err := Get(t.Context(), url, "", 1<<20)
	if err != nil || !strings.Contains(string(data), name) {
		t.Errorf("%q, %v", data, err)
	}
	if _, err = Get(t.Context(), url, "", 10); err == nil || !strings.Contains(err.Error(), "more than the 10 bytes") {
		t.Errorf("error = %v", err)
	}
	var status *StatusError
	if _, err = Get(t.Context(), b.API.URL+"/api/models/no/such/revision/main", "", 10); !errors.As(err, &status) ||
		status.Code != 401 || status.Reason != "RepoNotFound" {
		t.Errorf("error = %v", err)
	}
}

func TestRemaining(t *testing.T) {
	t.Parallel()
	for want, p := range map[time.Duration]Progress{
		0:                {Done: 5, Total: 10},
		5 * time.Second:  {Done: 5, Total: 10, Rate: 1},
		time.Millisecond: {Done: 9, Total: 10, Rate: 1000},
	} {
		if got := p.Remaining(); got != want {
			t.Errorf("%+v: %s, want %s", p, got, want)
		}
	}
}

// FuzzResume has any state beside a part: what is taken over covers the file once and counts no byte that is not there.
func FuzzResume(f *testing.F) {
	digest := digestOf(nil)
	f.Add(fmt.Sprintf(`{"digest": %q, "size": 100, "ranges": [0, 50], "done": [50, 3]}`, digest), int64(53))
	f.Add(fmt.Sprintf(`{"digest": %q, "size": 100, "ranges": [0, 200], "done": [9223372036854775807, -1]}`, digest), int64(100))
	f.Fuzz(func(t *testing.T, text string, length int64) {
		path := filepath.Join(t.TempDir(), "model")
		if err := os.WriteFile(path+stateSuffix, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &part{path: path, state: state{Digest: digest, Size: 100}}
		if !p.resume(length) {
			return
		}
		at := int64(0)
		for _, r := range p.ranges {
			done := r.done.Load()
			if r.from != at || r.to <= r.from || done < 0 || done > r.to-r.from || done > 0 && r.from+done > length {
				t.Errorf("%q: a range from %d to %d with %d", text, r.from, r.to, done)
			}
			at = r.to
		}
		if at != 100 {
			t.Errorf("%q: the ranges end at %d", text, at)
		}
	})
}

// Whoever tidies up holds the lock, and may remove the folder of the file with what was in it.
func TestFolderGoesWhileWaiting(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1000)
	dir := t.TempDir()
	b.file.Path, b.file.Lock = filepath.Join(dir, "blobs", "model"), filepath.Join(dir, "model.lock")
	unlock, ok, err := TryLock(b.file.Lock)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	b.file.Progress = func(p Progress) {
		if p.Waiting {
			if err := os.RemoveAll(filepath.Dir(b.file.Path)); err != nil {
				t.Error(err)
			}
			unlock()
		}
	}
	if err := os.Mkdir(filepath.Dir(b.file.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Download(t.Context(), b.file); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(b.file.Path); err != nil || !bytes.Equal(got, b.content) {
		t.Errorf("%d bytes (%v)", len(got), err)
	}
}

// Somebody who shares the cache has put another name of a file, or something that is no file, where a part goes: nothing of it is
// lost.
func TestPlantedPart(t *testing.T) {
	t.Parallel()
	fifo := func(_, part string) error { return syscall.Mkfifo(part, 0o600) }
	for name, c := range map[string]struct {
		suffix string
		plant  func(victim, part string) error
	}{
		"hard link":              {PartSuffix, os.Link},
		"symbolic link":          {PartSuffix, os.Symlink},
		"fifo":                   {PartSuffix, fifo},
		"state as hard link":     {stateSuffix, os.Link},
		"state as symbolic link": {stateSuffix, os.Symlink},
		"state as fifo":          {stateSuffix, fifo},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 300<<10)
			victim := filepath.Join(t.TempDir(), "victim")
			if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.plant(victim, b.file.Path+c.suffix); err != nil {
				t.Fatal(err)
			}
			b.check(t)
			if kept, err := os.ReadFile(victim); err != nil || string(kept) != "precious" {
				t.Errorf("the file is now %.20q (%v)", kept, err)
			}
		})
	}
}
