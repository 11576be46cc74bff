package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestLifeOfALaunch(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LoadTime: 50 * time.Millisecond})
	cfg.Flags = []string{"--ctx-size", "512"}
	p, j := newLaunch(t, cfg)
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	handoffPath := filepath.Join(cfg.StateDir, "engines", "pool-r0.json")
	if _, err := os.Stat(handoffPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a handoff before readiness: %v", err)
	}
	h, err := p.WaitReady(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := p.WaitReady(bounded(t)); err != nil || !reflect.DeepEqual(again, h) {
		t.Errorf("a second WaitReady returned %+v, %v", again, err)
	}

	onDisk, err := ReadHandoff(handoffPath)
	if err != nil || !reflect.DeepEqual(onDisk, h) {
		t.Errorf("the file holds %+v (%v), want %+v", onDisk, err, h)
	}
	info, err := os.Stat(handoffPath)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("handoff mode %v (%v)", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(handoffPath)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("handoff folder mode %v (%v)", info.Mode(), err)
	}
	pid, err := os.ReadFile(filepath.Join(cfg.StateDir, "pool-r0", "engine.pid"))
	if err != nil || strings.TrimSpace(string(pid)) != strconv.Itoa(h.Process.PID) {
		t.Errorf("PID file %q (%v), want %d", pid, err, h.Process.PID)
	}
	if h.Engine != "llamacpp" || h.EngineVersion != "b11669-Fake" || h.ProvisioningMode != "binary" || h.Answer != answerOK ||
		h.PoolID != "pool" || h.ReplicaID != "r0" || h.Model != (HandoffModel{cfg.Model.ID, cfg.Model.ID}) || h.Generation != 1 {
		t.Errorf("handoff %+v", h)
	}
	if got := enginetest.Inspect(t, h.URL).Argv; !reflect.DeepEqual(got, h.Args) {
		t.Errorf("the engine got %q, the handoff says %q", got, h.Args)
	}

	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err after a stop: %v", err)
	}
	nothingLeft(t, p)
	wantStates(t, j, StatePreparing, StateStarting, StateReady, StateDraining, StateStopping, StateStopped)
	if err := p.Start(bounded(t)); !errors.Is(err, ErrStopped) {
		t.Errorf("Start after Stop: %v", err)
	}
}

// The first eight keys of the handoff are a contract: their names, order and types.
func TestHandoffKeys(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	ready(t, cfg)
	data, err := os.ReadFile(filepath.Join(cfg.StateDir, "engines", "pool-r0.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(data), "}\n") {
		t.Error("no newline at the end")
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	var keys []string
	depth := 0
	key := false
	for {
		tok, err := dec.Token()
		if err != nil {
			break
		}
		switch d, isDelim := tok.(json.Delim); {
		case isDelim && (d == '{' || d == '['):
			depth++
			key = depth == 1
		case isDelim:
			depth--
			key = depth == 1
		case depth == 1 && key:
			keys = append(keys, tok.(string))
			key = false
		case depth == 1:
			key = true
		}
	}
	if h, err := decodeHandoff("", data); err != nil || h.OpenAIURL != h.URL+"/v1" {
		t.Errorf("OpenAI's API is at %q of %q (%v)", h.OpenAIURL, h.URL, err)
	}
	want := []string{"engine", "engine_version", "provisioning_mode", "url", "pool_id", "replica_id", "model", "flags"}
	if len(keys) < len(want) || !reflect.DeepEqual(keys[:len(want)], want) {
		t.Errorf("keys %v, want them to begin with %v", keys, want)
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	p, _ := newLaunch(t, cfg)
	if _, err := p.WaitReady(bounded(t)); !errors.Is(err, ErrNotStarted) {
		t.Errorf("WaitReady before Start: %v", err)
	}
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(bounded(t)); !errors.Is(err, ErrStarted) {
		t.Errorf("second Start: %v", err)
	}

	unused, j := newLaunch(t, fakeConfig(t, enginetest.Behavior{}))
	if err := unused.Stop(bounded(t)); err != nil {
		t.Errorf("Stop before Start: %v", err)
	}
	<-unused.Done()
	wantStates(t, j, StateStopped)
	if _, err := unused.WaitReady(bounded(t)); !errors.Is(err, ErrStopped) {
		t.Errorf("WaitReady after Stop: %v", err)
	}

	bad := cfg
	bad.Port = 0
	bad.PoolID = "../x"
	_, err := New(bad)
	var config *ConfigError
	if !errors.As(err, &config) || len(config.Problems) < 2 {
		t.Errorf("New of a bad configuration: %v", err)
	}
}

// Everything that can be known before the start is an error of Start, and nothing is left of it.
func TestStartErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		behavior enginetest.Behavior
		change   func(t *testing.T, cfg *ProvisionConfig)
		cause    engine.Cause
		text     []string
	}{
		"no executable": {
			change: func(_ *testing.T, cfg *ProvisionConfig) { cfg.Provisioning.Binary.Path = "/nonexistent/llama-server" },
			cause:  engine.CauseLibMissing, text: []string{"cannot find the engine's executable", "provisioning.binary.path"},
		},
		"not in PATH": {
			change: func(_ *testing.T, cfg *ProvisionConfig) { cfg.Provisioning.Binary.Path = "no-such-engine" },
			cause:  engine.CauseLibMissing, text: []string{
				`no executable "no-such-engine" in PATH; install it, name it in "provisioning.binary.path", or have it brought: `,
				`write "provisioning: {binary: {release: b11070}}"`,
			},
		},
		"a folder": {
			change: func(t *testing.T, cfg *ProvisionConfig) { cfg.Provisioning.Binary.Path = t.TempDir() },
			cause:  engine.CauseLibMissing, text: []string{"is a folder"},
		},
		"not executable": {
			change: func(t *testing.T, cfg *ProvisionConfig) { chmod(t, cfg.Provisioning.Binary.Path, 0o644) },
			cause:  engine.CauseLibMissing, text: []string{"is not executable; run chmod +x"},
		},
		"a model in its place": {
			change: func(_ *testing.T, cfg *ProvisionConfig) { cfg.Provisioning.Binary.Path = cfg.Model.ID },
			cause:  engine.CauseLibMissing, text: []string{"it is a model; name the executable file"},
		},
		"world-writable": {
			change: func(t *testing.T, cfg *ProvisionConfig) { chmod(t, cfg.Provisioning.Binary.Path, 0o777) },
			cause:  engine.CauseLibMissing, text: []string{"can be replaced by any user"},
		},
		"setuid": {
			change: func(t *testing.T, cfg *ProvisionConfig) {
				chmod(t, cfg.Provisioning.Binary.Path, 0o755|fs.ModeSetuid)
			},
			cause: engine.CauseLibMissing, text: []string{"setuid"},
		},
		"a library is missing": {
			behavior: enginetest.Behavior{},
			change: func(t *testing.T, cfg *ProvisionConfig) {
				script(t, cfg, "echo 'llama-server: error while loading shared libraries: libllama.so: cannot open shared object file' >&2; exit 127")
			},
			cause: engine.CauseLibMissing, text: []string{"libllama.so", "install the engine with all its libraries"},
		},
		"another program": {
			behavior: enginetest.Behavior{VersionText: "GNU coreutils 9.1\n"},
			cause:    engine.CauseUnknown, text: []string{"cannot read the version", "is it this engine's executable?"},
		},
		"executable of another CPU": {
			change: func(t *testing.T, cfg *ProvisionConfig) {
				other := map[string]string{"amd64": "\xb7", "arm64": "\x3e"}[runtime.GOARCH]
				if other == "" {
					skip(t, "knows no other CPU than "+runtime.GOARCH)
				}
				head := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00" + other + strings.Repeat("\x00", 100)
				cfg.Provisioning.Binary.Path = filepath.Join(t.TempDir(), "llama-server")
				writeProgram(t, cfg.Provisioning.Binary.Path, head)
			},
			cause: engine.CauseLibMissing, text: []string{"it was built for ", ", and this machine is " + runtime.GOARCH, "install a build for this machine"},
		},
		"script without its interpreter": {
			change: func(t *testing.T, cfg *ProvisionConfig) {
				cfg.Provisioning.Binary.Path = filepath.Join(t.TempDir(), "llama-server")
				writeProgram(t, cfg.Provisioning.Binary.Path, "#!/opt/none/bin/python3\n")
			},
			cause: engine.CauseLibMissing, text: []string{`its interpreter "/opt/none/bin/python3" is missing`},
		},
		"state directory is a file": {
			change: func(t *testing.T, cfg *ProvisionConfig) {
				if err := os.WriteFile(cfg.StateDir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			cause: engine.CauseUnknown, text: []string{"is a regular file; remove it or set another \"state_dir\""},
		},
		"state directory below a file": {
			change: func(t *testing.T, cfg *ProvisionConfig) {
				if err := os.WriteFile(cfg.StateDir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				cfg.StateDir = filepath.Join(cfg.StateDir, "state")
			},
			cause: engine.CauseUnknown, text: []string{"is a regular file; remove it or set another \"state_dir\""},
		},
		"no model": {
			change: func(_ *testing.T, cfg *ProvisionConfig) { cfg.Model.ID = "/nonexistent/model.gguf" },
			cause:  engine.CauseModelMissing, text: []string{"/nonexistent/model.gguf", `check "model.id"`},
		},
		"empty model": {
			change: func(t *testing.T, cfg *ProvisionConfig) {
				if err := os.Truncate(cfg.Model.ID, 0); err != nil {
					t.Fatal(err)
				}
			},
			cause: engine.CauseModelCorrupt, text: []string{"model.gguf\" is empty; fetch it again"},
		},
		"port taken": {
			change: func(t *testing.T, cfg *ProvisionConfig) { cfg.Port = enginetest.Stranger(t) },
			cause:  engine.CausePortInUse, text: []string{"is not free: it is taken by \"", "pid " + strconv.Itoa(os.Getpid()), `change "port"`},
		},
		"no secret": {
			change: func(_ *testing.T, cfg *ProvisionConfig) {
				cfg.APIKey = &settings.SecretRef{FromEnv: "NO_SUCH_VARIABLE"}
			},
			cause: engine.CauseUnknown, text: []string{`api_key: the environment variable "NO_SUCH_VARIABLE" is not set`},
		},
		"state directory for all": {
			change: func(t *testing.T, cfg *ProvisionConfig) {
				if err := os.Mkdir(cfg.StateDir, 0o700); err != nil {
					t.Fatal(err)
				}
				chmod(t, cfg.StateDir, 0o777)
			},
			cause: engine.CauseUnknown, text: []string{"others may write to it (mode 0777); run chmod 700"},
		},
		"state directory is a link": {
			change: func(t *testing.T, cfg *ProvisionConfig) {
				if err := os.Symlink(t.TempDir(), cfg.StateDir); err != nil {
					t.Fatal(err)
				}
			},
			cause: engine.CauseUnknown, text: []string{"it is a symbolic link"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, test.behavior)
			if test.change != nil {
				test.change(t, &cfg)
			}
			p, j := newLaunch(t, cfg)
			err := p.Start(bounded(t))
			var start *StartError
			if !errors.As(err, &start) || start.Cause != test.cause {
				t.Fatalf("%T with cause %q, want %q: %v", err, start.Cause, test.cause, err)
			}
			wantText(t, err, append(test.text, "pool/r0: cannot start: ")...)
			wantStates(t, j, StatePreparing, StateFailed)
			<-p.Done()
			if !errors.Is(p.Err(), err) {
				t.Errorf("Err is %v", p.Err())
			}
			if _, err := p.WaitReady(bounded(t)); !errors.As(err, &start) {
				t.Errorf("WaitReady after a failed start: %v", err)
			}
			if paths, _ := filepath.Glob(filepath.Join(cfg.StateDir, "engines", "*")); len(paths) > 0 {
				t.Errorf("handoffs left: %v", paths)
			}
		})
	}
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// script makes the executable a shell script.
func script(t *testing.T, cfg *ProvisionConfig, body string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "llama-server")
	writeProgram(t, path, "#!/bin/sh\n"+body+"\n")
	cfg.Provisioning.Binary.Path = path
}

func TestFlagsAreCheckedAgainstTheBinary(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Flags = []string{"--ctx-sise", "512"}
	p, _ := newLaunch(t, cfg)
	err := p.Start(bounded(t))
	var config *ConfigError
	if !errors.As(err, &config) {
		t.Fatalf("%T: %v", err, err)
	}
	wantText(t, err, "flags[0]", `"--ctx-sise"`, `"--ctx-size"`)
}

func TestSecondProvisionerIsRefused(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	first, _ := ready(t, cfg)
	again := cfg
	again.Port = enginetest.FreePort(t, 1)
	second, _ := newLaunch(t, again)
	err := second.Start(bounded(t))
	if !errors.Is(err, ErrBusy) {
		t.Fatalf("%v", err)
	}
	wantText(t, err, "it runs already (pid "+strconv.Itoa(first.Status().PID))
	if _, err := ReadHandoff(first.run.files.Handoff()); err != nil {
		t.Errorf("the first one's handoff: %v", err)
	}
}

func TestRacingProvisionersHaveOneWinner(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	const racers = 8
	errs := make([]error, racers)
	var all sync.WaitGroup
	launches := make([]*EngineProvisioner, racers)
	for i := range racers {
		launches[i], _ = newLaunch(t, cfg)
	}
	for i, p := range launches {
		all.Go(func() { errs[i] = p.Start(bounded(t)) })
	}
	all.Wait()
	winners := 0
	for _, err := range errs {
		switch {
		case err == nil:
			winners++
		case !errors.Is(err, ErrBusy):
			t.Errorf("a loser got %v", err)
		}
	}
	if winners != 1 {
		t.Errorf("%d winners", winners)
	}
}

func TestGenerationsAndLogs(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	for want := int64(1); want <= 7; want++ {
		p, _ := ready(t, cfg)
		if p.handoff.Generation != want {
			t.Fatalf("generation %d, want %d", p.handoff.Generation, want)
		}
		if err := p.Stop(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filesOf(cfg.StateDir, "pool-r0")
	if err != nil {
		t.Fatal(err)
	}
	numbers, err := files.LogNumbers()
	if want := []int64{3, 4, 5, 6, 7}; err != nil || !reflect.DeepEqual(numbers, want) {
		t.Errorf("logs %v (%v), want %v", numbers, err, want)
	}
	info, err := os.Stat(files.Log(7))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
		t.Errorf("log: %v (%v)", info, err)
	}
}

// The engine's world is built, not inherited.
func TestProcess(t *testing.T) {
	cfg := fakeConfig(t, enginetest.Behavior{})
	for name, value := range map[string]string{
		"LLAMA_ARG_CTX_SIZE": "99", "LLAMA_API_KEY": "inherited", "VLLM_PORT": "1", "AIP_MODE": "PREDICTION", "HF_TOKEN": "hf_x",
		"NOTIFY_SOCKET": "/run/x", "AWS_SECRET_ACCESS_KEY": "x", "HF_HOME": "/hf", "CUDA_VISIBLE_DEVICES": "7", "LC_ALL": "C.UTF-8",
		"XDG_CONFIG_HOME": "/home/x/.config",
	} {
		t.Setenv(name, value)
	}
	cfg.Env = map[string]settings.EnvValue{"GREETING": {Value: "hello, world"}, "LLAMA_ARG_THREADS": {Value: "2"}}
	p, _ := ready(t, cfg)
	report := enginetest.Inspect(t, p.handoff.URL)
	if report.SID != report.PID || report.PGID != report.PID {
		t.Errorf("pid %d, group %d, session %d: not a session of its own", report.PID, report.PGID, report.SID)
	}
	if report.Cwd != cfg.Dir {
		t.Errorf("works in %q", report.Cwd)
	}
	if report.Files["0"] != "/dev/null" || report.Files["1"] != p.run.rec.Log || report.Files["2"] != p.run.rec.Log ||
		report.Files["3"] != p.run.files.LockPath() {
		t.Errorf("open files: %v", report.Files)
	}
	env := map[string]string{}
	for _, entry := range report.Env {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	for name, want := range map[string]string{
		"GREETING": "hello, world", "LLAMA_ARG_THREADS": "2", "HF_HOME": "/hf", "LC_ALL": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "",
		proc.MarkEnv: p.run.rec.LaunchID, "TMPDIR": p.run.rec.TempDir, "XDG_CONFIG_HOME": p.run.rec.TempDir + "/config",
	} {
		if got, ok := env[name]; !ok || got != want {
			t.Errorf("%s=%q (set: %v), want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"LLAMA_ARG_CTX_SIZE", "LLAMA_API_KEY", "VLLM_PORT", "AIP_MODE", "HF_TOKEN", "NOTIFY_SOCKET", "AWS_SECRET_ACCESS_KEY"} {
		if value, ok := env[name]; ok {
			t.Errorf("%s=%q was inherited", name, value)
		}
	}
}

func TestUnaskedExit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		death  enginetest.Death
		signal string
		code   int
		cause  engine.Cause
		text   []string
	}{
		"code 0":  {death: enginetest.Death{Code: 0}, cause: engine.CauseUnknown, text: []string{"with code 0 after it was ready"}},
		"code 7":  {death: enginetest.Death{Code: 7, Stderr: "fatal: the end\n"}, code: 7, cause: engine.CauseUnknown, text: []string{`"fatal: the end"`}},
		"crash":   {death: enginetest.Death{Signal: syscall.SIGSEGV}, code: -1, signal: "segmentation fault", cause: engine.CauseUnknown},
		"SIGKILL": {death: enginetest.Death{Signal: syscall.SIGKILL}, code: -1, signal: "killed", cause: engine.CauseUnknown, text: []string{"look for who sent SIGKILL"}},
		"out of GPU memory": {
			death: enginetest.Death{Code: 1, Stderr: "ggml_cuda: allocating 512.00 MiB on device 0: cudaMalloc failed: out of memory\n"},
			code:  1, cause: engine.CauseOOMGPU, text: []string{"[oom_gpu]", "free GPU memory"},
		},
		"words about its model": {death: enginetest.Death{Code: 1, Stderr: "invalid magic characters: 'x', expected 'GGUF'\n"}, code: 1, cause: engine.CauseUnknown},
		"words about the driver": {
			death: enginetest.Death{Code: 1, Stderr: "failed to initialize CUDA: unknown error\n"}, code: 1, cause: engine.CauseDriver, text: []string{"[driver]"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			machine := cgroup.WatchMachineOOM()
			p, j := ready(t, fakeConfig(t, enginetest.Behavior{}))
			enginetest.Kill(t, p.handoff.URL, test.death)
			awaitDone(t, p)
			var exit *ExitError
			if !errors.As(p.Err(), &exit) {
				t.Fatalf("%T: %v", p.Err(), p.Err())
			}
			if kills, _, known := machine.Kills(); test.signal == "killed" && (!known || kills > 0) {
				test.cause, test.text = engine.CauseOOMHost, nil // memory really ran out, or nobody counts
			}
			if exit.Code != test.code || exit.Signal != test.signal || exit.Cause != test.cause || !exit.Ready || !exit.Retry || exit.LogPath == "" {
				t.Errorf("%+v", exit)
			}
			wantText(t, exit, append(test.text, "pool/r0: engine exited ")...)
			wantStates(t, j, StatePreparing, StateStarting, StateReady, StateFailed)
			nothingLeft(t, p)
			if err := p.Stop(bounded(t)); err != nil {
				t.Errorf("Stop of what is gone: %v", err)
			}
			if _, err := os.Stat(exit.LogPath); err != nil {
				t.Errorf("the failed run's log: %v", err)
			}
		})
	}
}

func TestStopDuringStart(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	// The executable says its version only after the test has begun to stop: through a pipe that the test opens.
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	script(t, &cfg, "cat '"+pipe+"'")
	p, j := newLaunch(t, cfg)
	failed := make(chan error)
	go func() { failed <- p.Start(bounded(t)) }()
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // returns when the script reads
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := p.Stop(bounded(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := <-failed; !errors.Is(err, ErrStopped) {
		t.Errorf("Start: %v", err)
	}
	wantStates(t, j, StatePreparing, StateStopped)
	<-p.Done()
	if err := p.Err(); err != nil {
		t.Errorf("after a stop Err is %v", err)
	}
	var notReady *NotReadyError
	if _, err := p.WaitReady(bounded(t)); !errors.As(err, &notReady) || !errors.Is(err, ErrStopped) {
		t.Errorf("WaitReady: %v", err)
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	p, _ := ready(t, cfg)
	p.Release()
	<-p.Done()
	if !errors.Is(p.Err(), ErrReleased) || !errors.Is(p.Stop(bounded(t)), ErrReleased) {
		t.Errorf("after Release: %v", p.Err())
	}
	p.Release() // does nothing
	if pid := p.handoff.Process.PID; !alive(pid) {
		t.Errorf("pid %d died with its provisioner", pid)
	}
	if _, err := ReadHandoff(p.run.files.Handoff()); err != nil {
		t.Errorf("the handoff went with it: %v", err)
	}
	attached, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := attached.WaitReady(bounded(t)); err != nil || !reflect.DeepEqual(h, p.handoff) {
		t.Errorf("attached to %+v (%v)", h, err)
	}
	if err := attached.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	// The first provisioner's process is this test's child, and nobody else reaps it.
	if _, err := p.run.host().Leader.Child().Wait(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

func TestListenOnAllAddresses(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Host, cfg.Expose = "0.0.0.0", settings.ExposeKeyed
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("k\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.APIKey = &settings.SecretRef{FromFile: key}
	p, _ := ready(t, cfg)
	if want := "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.Port)); p.handoff.URL != want {
		t.Errorf("URL %q, want %q", p.handoff.URL, want)
	}
}

func TestContextBoundsStartOnly(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(bounded(t))
	p, _ := newLaunch(t, fakeConfig(t, enginetest.Behavior{}))
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := p.WaitReady(bounded(t)); err != nil {
		t.Errorf("the engine died with Start's context: %v", err)
	}
	p, _ = newLaunch(t, fakeConfig(t, enginetest.Behavior{}))
	if err := p.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Start with a dead context: %v", err)
	}
}
