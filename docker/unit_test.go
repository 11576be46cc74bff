package docker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestReadEntry(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 10, 0, 0, 123456789, time.UTC)
	in := bytes.NewReader(slices.Concat(entry(at, "one\n"), []byte{1, 0, 0, 0, 0, 0, 0, 5}, []byte("plain"), []byte{1, 0, 0}))
	for _, want := range []struct {
		at   time.Time
		text string
	}{{at, "one\n"}, {time.Time{}, "plain"}} {
		got, text, err := readEntry(in)
		if err != nil || !got.Equal(want.at) || string(text) != want.text {
			t.Errorf("%v %q (%v)", got, text, err)
		}
	}
	if _, _, err := readEntry(in); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half an entry: %v", err)
	}
	if _, _, err := readEntry(bytes.NewReader([]byte{1, 0, 0, 0, 255, 255, 255, 255})); err == nil {
		t.Error("an entry of 4 GiB is read")
	}
}

func FuzzReadEntry(f *testing.F) {
	f.Add(entry(time.Unix(0, 0), "text\n"))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 1, ' '})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		for {
			_, text, err := readEntry(in)
			if len(text) > len(data) {
				t.Fatalf("%d bytes of %d", len(text), len(data))
			}
			if err != nil {
				return
			}
		}
	})
}

// TestLogGoesOn copies a log in two parts, by two programs, where lines have the same time, as Podman's have.
func TestLogGoesOn(t *testing.T) {
	t.Parallel()
	second := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	all := []struct {
		at   time.Time
		text string
	}{{second, "a"}, {time.Time{}, "A\n"}, {second, "b\n"}, {second, "c\n"}, {second.Add(time.Second), "d\n"}, {second.Add(time.Second), "e\n"}}
	there := 3
	r := fakeRuntime(t, false, map[string]http.HandlerFunc{"/containers/x/logs": func(w http.ResponseWriter, r *http.Request) {
		sent := false
		for _, line := range all[:there] {
			// Podman leaves out the lines of that very time, which Docker does not. The rest of a line has no time.
			if sent = line.at.After(sinceOf(t, r)) || sent && line.at.IsZero(); sent {
				_, _ = w.Write(entry(line.at, line.text))
			}
		}
	}})
	path := filepath.Join(t.TempDir(), "1.log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first := newLogCopy(r, path)
	if err := first.create(); err != nil {
		t.Fatal(err)
	}
	first.finish(t.Context(), "x")
	second2 := newLogCopy(r, path)
	if second2.open() {
		t.Error("two programs copy one log")
	}
	first.close()
	there = len(all)
	second2.finish(t.Context(), "x")
	if err := second2.remove(); err != nil {
		t.Error(err)
	}
	third := newLogCopy(r, path) // where all was copied, nothing is copied again
	third.finish(t.Context(), "x")
	data, err := os.ReadFile(path)
	if err != nil || string(data) != "aA\nb\nc\nd\ne\n" {
		t.Errorf("log %q (%v)", data, err)
	}
}

// sinceOf reads a time as Podman does: by way of a float64, which has no nanoseconds left.
func sinceOf(t *testing.T, r *http.Request) time.Time {
	t.Helper()
	text := r.URL.Query().Get("since")
	if text == "" {
		return time.Time{}
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Errorf("since %q: %v", text, err)
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9))
}

func TestHowContainersEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state *container.State
		want  launch.Exit
	}{
		{nil, launch.Exit{}},
		{&container.State{Status: container.StateCreated}, launch.Exit{}},
		{&container.State{Status: container.StateExited}, launch.Exit{Known: true}},
		{&container.State{Status: container.StateExited, ExitCode: 3}, launch.Exit{Known: true, Code: 3}},
		{&container.State{Status: container.StateExited, ExitCode: 143}, launch.Exit{Known: true, Code: -1, Signal: "terminated"}},
		{&container.State{Status: container.StateExited, ExitCode: 255}, launch.Exit{Known: true, Code: 255}},
		{
			&container.State{Status: container.StateExited, ExitCode: 137, OOMKilled: true},
			launch.Exit{Known: true, Code: -1, Signal: "killed", OOM: "the container's state says OOMKilled"},
		},
	} {
		i := newInstance(nil, launch.Ref{})
		i.ended(c.state)
		if got := i.Exit(); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.state, got, c.want)
		}
	}
}

// TestOutOfMemory kills a container for want of memory, as the runtime tells it.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	state := map[string]any{"Status": "exited", "ExitCode": 137, "OOMKilled": true}
	r := fakeRuntime(t, false, map[string]http.HandlerFunc{
		"/containers/json":    answer([]any{map[string]any{"Id": "x", "State": "exited"}}),
		"/containers/x/json":  answer(map[string]any{"Id": "x", "State": state}),
		"/containers/x/logs":  func(http.ResponseWriter, *http.Request) {},
		"/containers/x":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"/containers/x/start": nil,
	})
	launcher := New()
	launcher.runtimes[r.socket] = r
	i, err := launcher.Find(t.Context(), launch.Ref{LaunchID: "1", Log: filepath.Join(t.TempDir(), "1.log"), Runtime: r.socket})
	if err != nil || !i.Exited() {
		t.Fatalf("exited %t (%v)", i.Exited(), err)
	}
	if exit := i.Exit(); exit.Signal != "killed" || exit.OOM == "" || exit.OOMShared {
		t.Errorf("%+v", exit)
	}
	if err := i.Remove(); err != nil {
		t.Error(err)
	}
}

// TestRuntimeGone: of a runtime that does not answer nobody may say that nothing runs.
func TestRuntimeGone(t *testing.T) {
	t.Parallel()
	r := fakeRuntime(t, true, map[string]http.HandlerFunc{"/containers/json": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `{"message": "database is locked"}`)
	}})
	launcher := New()
	launcher.runtimes[r.socket] = r
	if _, err := launcher.Find(t.Context(), launch.Ref{LaunchID: "1", Runtime: r.socket}); err == nil ||
		!strings.Contains(err.Error(), "database is locked") {
		t.Errorf("Find: %v", err)
	}
	if _, err := New().Find(t.Context(), launch.Ref{LaunchID: "1", Runtime: filepath.Join(t.TempDir(), "none")}); err == nil ||
		!strings.Contains(err.Error(), "cannot reach the container runtime at") {
		t.Errorf("Find: %v", err)
	}
}

// TestForeignContainers: a container is removed for the id of this state directory alone.
func TestForeignContainers(t *testing.T) {
	t.Parallel()
	ref := launch.Ref{StateDir: "/data/.runtime", StateID: "1111", Pool: "p", Replica: "r0", LaunchID: "1"}
	var removed []string
	summary := func(id string, labels map[string]string) any {
		return map[string]any{"Id": id, "Status": "Up 3 days", "Labels": labels}
	}
	remover := func(_ http.ResponseWriter, r *http.Request) { removed = append(removed, filepath.Base(r.URL.Path)) }
	r := fakeRuntime(t, false, map[string]http.HandlerFunc{
		"/containers/json": answer([]any{
			summary("ours", map[string]string{labelStateDir: "/moved", labelStateID: "1111"}),
			summary("old", map[string]string{labelStateDir: ref.StateDir}),
			summary("theirs", map[string]string{labelStateDir: ref.StateDir, labelStateID: "2222"}),
			summary("elsewhere", map[string]string{labelStateDir: "/other", labelStateID: "3333"}),
		}),
		"/containers/ours": remover, "/containers/old": remover, "/containers/theirs": remover, "/containers/elsewhere": remover,
	})
	var notes []string
	if err := newInstance(r, ref).removeOrphans(t.Context(), func(n string) { notes = append(notes, n) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(removed, []string{"ours"}) || len(notes) != 3 || !strings.Contains(notes[1], "alone") || !strings.Contains(notes[2], "theirs") {
		t.Errorf("removed %q; notes %q", removed, notes)
	}
	removed = nil
	ref.StateID = "" // of a directory without one, nothing is known
	if err := newInstance(r, ref).removeOrphans(t.Context(), func(string) {}); err != nil || len(removed) > 0 {
		t.Errorf("removed %q (%v)", removed, err)
	}
}

// TestAskedContainers: what only looks like a question of ours is left alone.
func TestAskedContainers(t *testing.T) {
	t.Parallel()
	var removed []string
	pages := map[string]http.HandlerFunc{}
	var list []any
	for id, asked := range map[string]string{"old": "1000", "young": strconv.FormatInt(time.Now().Unix(), 10), "strange": "yes"} {
		list = append(list, map[string]any{"Id": id, "Labels": map[string]string{labelAsked: asked}})
		pages["/containers/"+id] = func(http.ResponseWriter, *http.Request) { removed = append(removed, id) }
	}
	pages["/containers/json"] = answer(list)
	fakeRuntime(t, false, pages).removeAsked(t.Context())
	if !slices.Equal(removed, []string{"old"}) {
		t.Errorf("removed %q", removed)
	}
}

func TestModelMounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	snapshot := filepath.Join(dir, "models--a--b", "snapshots", "1")
	for _, folder := range []string{snapshot, filepath.Join(dir, "plain")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "models [v1]*"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf", "m-00001-of-00002.gguf", "m-evil9-of-00003.gguf", "blob",
		"models [v1]*/m-00001-of-00002.gguf", "models [v1]*/m-00002-of-00002.gguf",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("blob", filepath.Join(dir, "link.gguf")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"":                                   nil,
		"m-00001-of-00003.gguf":              {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"},
		"link.gguf":                          {"link.gguf < blob"},
		"models [v1]*/m-00001-of-00002.gguf": {"models [v1]*/m-00001-of-00002.gguf", "models [v1]*/m-00002-of-00002.gguf"},
		"plain":                              {"plain"},
		"models--a--b/snapshots/1":           {"models--a--b"},
	} {
		if path != "" {
			path = filepath.Join(dir, path)
		}
		mounts, err := modelMounts(path)
		if err != nil {
			t.Error(err)
		}
		var got []string
		for _, m := range mounts {
			target, _ := filepath.Rel(dir, m.Target)
			source, _ := filepath.Rel(dir, m.Source)
			if source != target {
				target += " < " + source
			}
			got = append(got, target)
			if !m.ReadOnly {
				t.Errorf("%s can be written", target)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
	for _, missing := range []string{"none.gguf", "m-00001-of-00002.gguf"} { // its second part
		if _, err := modelMounts(filepath.Join(dir, missing)); err == nil {
			t.Errorf("%s is mounted", missing)
		}
	}
}

func TestPull(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stream string
		err    string
		last   launch.Progress
	}{
		"whole": {
			stream: `{"status":"Pulling fs layer","id":"a"}
{"status":"Downloading","id":"a","progressDetail":{"current":10,"total":100}}
{"status":"Download complete","id":"a"}
{"status":"Status: Downloaded newer image"}`,
			last: launch.Progress{Done: 10, Total: 100},
		},
		"refused": {stream: `{"error":"no space left on device","errorDetail":{"message":"no space left on device"}}`, err: "no space left on device"},
		"torn":    {stream: `{"status":"Down`, err: "unexpected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fakeRuntime(t, false, map[string]http.HandlerFunc{"/images/create": func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, c.stream)
			}})
			var last launch.Progress
			err := r.pull(t.Context(), "example/image:tag", func(p launch.Progress) { last = p })
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v", err)
			}
			if last.Done != c.last.Done || last.Total != c.last.Total {
				t.Errorf("progress %+v", last)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]engine.Cause{
		"driver failed programming external connectivity: Bind for 127.0.0.1:80 failed: port is already allocated":       engine.CausePortInUse,
		"failed to bind host port for 203.0.113.9:80: listen tcp4 203.0.113.9:80: bind: cannot assign requested address": engine.CauseBadAddress,
		"rootlessport cannot expose privileged port 80, you can add 'net.ipv4.ip_unprivileged_port_start=80'":            engine.CausePortForbidden,
		`exec: "/x": stat /x: no such file or directory: unknown`:                                                        engine.CauseLibMissing,
		`OCI runtime attempted to invoke a command that was not found`:                                                   engine.CauseLibMissing,
		`could not select device driver "nvidia" with capabilities: [[gpu]]`:                                             engine.CauseDriver,
		"something else": "",
	} {
		var got engine.Cause
		if known, ok := errors.AsType[*launch.Error](explain(errors.New(words))); ok {
			got = known.Cause
		}
		if got != want {
			t.Errorf("%s: %q", words, got)
		}
	}
}

func TestFindSocket(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ configured, dockerHost, want string }{
		{"/x.sock", "unix:///y.sock", "unix:///x.sock"},
		{"unix:///x.sock", "", "unix:///x.sock"},
		{"", "unix:///y.sock", "unix:///y.sock"},
		{"", "tcp://10.0.0.1:2375", ""},
	} {
		t.Setenv("DOCKER_HOST", c.dockerHost)
		t.Setenv("XDG_RUNTIME_DIR", dir)
		got, err := findSocket(c.configured)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q (%v)", c, got, err)
		}
	}
}

// TestOptions holds what is asked of the runtime against the configuration.
func TestOptions(t *testing.T) {
	t.Parallel()
	r := &runtime{}
	i := newInstance(r, launch.Ref{StateDir: "/state", StateID: "abcdefabcdefabcdef", Pool: "p", Replica: "r0", LaunchID: "0123456789"})
	l := launch.Launch{
		Target: launch.Target{Host: "127.0.0.1", Port: 8081, Container: launch.Container{
			Volumes: []string{"/a:/b:ro", "cache:/c"}, User: "1:2", IPC: "host",
		}},
		Grace: 1500 * time.Millisecond, Args: []string{"--port", "8081"}, Env: []string{"A=b"},
		Image: engine.Image{Entrypoint: []string{"vllm"}, Volumes: []string{"unused:/x"}, ShmSize: 2 << 30},
	}
	got, err := i.options(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	c, h := got.Config, got.HostConfig
	if got.Name != "ep-p-r0-01234567" || *c.StopTimeout != 2 || c.StopSignal != "SIGTERM" || c.User != "1:2" || !slices.Equal(c.Entrypoint, []string{"vllm"}) ||
		!slices.Equal(c.Env, []string{"A=b", "NVIDIA_VISIBLE_DEVICES=void"}) || !slices.Equal(c.Healthcheck.Test, []string{"NONE"}) {
		t.Errorf("%s %+v", got.Name, c)
	}
	if fmt.Sprint(h.PortBindings) != "map[8081/tcp:[{127.0.0.1 8081}]]" || h.ShmSize != 2<<30 || h.NetworkMode != "engine-provisioner-abcdefabcdef" || h.IpcMode != "host" || !*h.Init {
		t.Errorf("%+v", h)
	}
	if len(h.Mounts) != 2 || h.Mounts[0].Type != "bind" || !h.Mounts[0].ReadOnly || h.Mounts[1].Type != "volume" || h.Mounts[1].ReadOnly {
		t.Errorf("mounts %+v", h.Mounts)
	}
	l.Target.Container = launch.Container{Network: "host", ShmSize: 1 << 30}
	if got, err = i.options(t.Context(), l); err != nil || got.HostConfig.PortBindings != nil || got.HostConfig.ShmSize != 1<<30 ||
		len(got.HostConfig.Mounts) != 1 || !got.HostConfig.NetworkMode.IsHost() {
		t.Errorf("%+v (%v)", got.HostConfig, err)
	}
}

// TestImages names the image of every built-in engine, on the GPU and on the CPU.
func TestImages(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]string{
		"llamacpp": {"ghcr.io/ggml-org/llama.cpp:server-cuda", "ghcr.io/ggml-org/llama.cpp:server"},
		"vllm":     {"vllm/vllm-openai:latest", "vllm/vllm-openai-cpu:latest-x86_64"},
		"sglang":   {"lmsysorg/sglang:latest", "lmsysorg/sglang:latest"},
		"tgi":      {"ghcr.io/huggingface/text-generation-inference:3.3.5", "ghcr.io/huggingface/text-generation-inference:3.3.5"},
	} {
		for i, gpu := range []engine.GPUPolicy{engine.GPURequired, engine.GPUNone} {
			r := fakeRuntime(t, false, nil)
			launcher := New()
			launcher.runtimes[r.socket] = r
			model := t.TempDir()
			if name == "llamacpp" {
				model += "/tiny.gguf"
				if err := ggufgen.WriteFile(model, ggufgen.Params{}); err != nil {
					t.Fatal(err)
				}
			}
			cfg := provisioner.ProvisionConfig{
				PoolID: "p", ReplicaID: "r0", Engine: name, Port: 8081, GPU: gpu, Model: settings.Model{ID: model},
				Provisioning: settings.Provisioning{Mode: "container", Container: &settings.Container{RuntimeSocket: r.socket}},
			}
			p, err := provisioner.New(cfg, provisioner.WithLauncher(launcher))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if _, err = p.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("cannot pull the image %q", want[i])) {
				t.Errorf("%s, gpu %s: %v", name, gpu, err)
			}
			_ = launcher.Close()
		}
	}
}

// TestListensOfAHungRuntime: a start waits for the answer, so a runtime that does not answer must not keep it.
func TestListensOfAHungRuntime(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	r := fakeRuntime(t, false, map[string]http.HandlerFunc{"/containers/x/json": func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}})
	i := newInstance(r, launch.Ref{Log: filepath.Join(t.TempDir(), "1.log")})
	i.id, i.pid = "x", os.Getpid()
	if owns, known := i.Listens("127.0.0.1", 80); !owns || !known || len(asked) > 0 {
		t.Errorf("owns %t, known %t; the runtime was asked: %t", owns, known, len(asked) > 0)
	}
}

func TestMountsForPodman(t *testing.T) {
	t.Parallel()
	at := func(path string) mount.Mount { return mount.Mount{Source: path, Target: path, ReadOnly: true} }
	mounts, binds, err := forPodman([]mount.Mount{at("/a:b"), at("/a,b"), at(`/a"b`)})
	if err != nil || len(mounts) != 1 || !slices.Equal(binds, []string{"/a,b:/a,b:ro", `/a"b:/a"b:ro`}) {
		t.Errorf("%v, %q (%v)", mounts, binds, err)
	}
	if _, _, err := forPodman([]mount.Mount{at("/a,b:c")}); err == nil {
		t.Error("a path that Podman would cut is mounted")
	}
}
