package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// project is a CMake project in a git repository: its llama-server becomes the fake engine. The tests run the real git,
// cmake and compiler.
type project struct {
	t   testing.TB
	dir string
}

const projectLists = `cmake_minimum_required(VERSION 3.14)
project(engine C)
file(APPEND "${LEDGER}" "configured\n")
if(NOT CMAKE_BUILD_TYPE STREQUAL "Release")
  message(FATAL_ERROR "built as ${CMAKE_BUILD_TYPE}")
endif()
add_library(words SHARED words.c)
add_executable(llama-server main.c)
target_link_libraries(llama-server words)
target_compile_definitions(llama-server PRIVATE ENGINE="${ENGINE}")
add_executable(unwanted unwanted.c)
`

const projectMain = `#include <unistd.h>
const char *word(void);
int main(int argc, char **argv) {
  (void)argc;
  argv[0] = (char *)word();
  execv(ENGINE, argv);
  return 1;
}
`

func newProject(t testing.TB) project {
	t.Helper()
	for _, tool := range []string{"git", "cmake", "cc"} {
		if _, err := exec.LookPath(tool); err != nil {
			skip(t, "a build needs "+tool)
		}
	}
	p := project{t, t.TempDir()}
	p.git("init", "--quiet", "--initial-branch=main")
	p.commit(map[string]string{
		"CMakeLists.txt": projectLists, "main.c": projectMain, "unwanted.c": "#error not asked for\n",
		"words.c": "const char *word(void) { return \"llama-server\"; }\n",
	})
	p.git("tag", "b11434")
	return p
}

func (p project) git(args ...string) string {
	p.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=test", "-c", "user.email=test@localhost"}, args...)...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (p project) commit(files map[string]string) (commit string) {
	p.t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	p.git("add", "--all")
	p.git("commit", "--quiet", "--message=change")
	return p.git("rev-parse", "HEAD")
}

// config is a replica that is built from the project. The ledger counts what the build does.
func (p project) config(ref string, flags ...string) (cfg ProvisionConfig, ledger func() string) {
	p.t.Helper()
	cfg = fakeConfig(p.t, enginetest.Behavior{})
	file := filepath.Join(cfg.Dir, "ledger")
	cfg.Provisioning = settings.Provisioning{Mode: "source", Source: &settings.Source{
		Repo: p.dir, Ref: ref, Jobs: 2,
		CMakeFlags: append([]string{"-DENGINE=" + cfg.Provisioning.Binary.Path, "-D", "LEDGER=" + file}, flags...),
	}}
	return cfg, func() string {
		data, _ := os.ReadFile(file)
		return string(data)
	}
}

// patiently bounds what compiles: a busy machine takes its time.
func patiently(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (j *journal) progress() []report.Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []report.Progress
	for _, e := range j.events {
		if e.Kind == EventProgress {
			all = append(all, *e.Progress)
		}
	}
	return all
}

// A start builds what is missing, tells how far it is, and starts what came out. The next one, and one without the
// repository, starts what is there.
func TestStartBuilds(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	cfg, ledger := p.config("b11434")
	cache := t.TempDir()
	plan, err := planOf(bounded(t), cfg, WithCacheDir(cache))
	if err != nil || len(plan.Pending) != 1 || plan.Binary != "" {
		t.Fatalf("%+v, %v", plan, err)
	}
	for _, part := range []string{"build llama-server from " + p.dir + " at b11434", "-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_BUILD_SERVER=ON", "-DENGINE="} {
		if !strings.Contains(plan.Pending[0], part) {
			t.Errorf("%q lacks %q", plan.Pending[0], part)
		}
	}
	if ledger() != "" {
		t.Error("a plan has built something")
	}

	engine, j := newLaunch(t, cfg, WithCacheDir(cache))
	if err := engine.Start(patiently(t)); err != nil {
		t.Fatal(err)
	}
	handoff, err := engine.WaitReady(patiently(t))
	if err != nil || handoff.ProvisioningMode != "source" {
		t.Fatalf("%+v, %v", handoff, err)
	}
	var steps []report.Step
	for _, now := range j.progress() {
		if len(steps) == 0 || steps[len(steps)-1] != now.Step {
			steps = append(steps, now.Step)
		}
	}
	if want := []report.Step{report.StepFetch, report.StepConfigure, report.StepBuild}; !slices.Equal(steps, want) {
		t.Errorf("steps: %v, want %v", steps, want)
	}
	if err := engine.Stop(bounded(t)); err != nil {
		t.Error(err)
	}

	var kept []string
	entry, err := onlyMatch(filepath.Join(cache, "engines", "source-*", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	for path := range filesBelow(t, filepath.Dir(entry)) {
		kept = append(kept, filepath.Base(path))
	}
	for _, name := range kept {
		if name == "main.c" || strings.HasSuffix(name, ".o") {
			t.Errorf("%s takes room in the cache", name)
		}
	}
	if !slices.Contains(kept, "libwords.so") || !slices.Contains(kept, "build.log") || slices.Contains(kept, "unwanted") {
		t.Errorf("kept: %q", kept)
	}

	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	again, _ := newLaunch(t, cfg, WithCacheDir(cache))
	for range 2 {
		prepared, err := again.Prepare(bounded(t))
		if err != nil || !strings.HasPrefix(prepared.Binary.Path, filepath.Dir(entry)) {
			t.Errorf("without the repository: %+v, %v", prepared, err)
		}
	}
	if err := again.Start(bounded(t)); err != nil {
		t.Error(err)
	}
	if plan, err := planOf(bounded(t), cfg, WithCacheDir(cache)); err != nil || len(plan.Pending) > 0 || plan.Binary == "" {
		t.Errorf("%+v, %v", plan, err)
	}
	if got := ledger(); got != "configured\n" {
		t.Errorf("the build ran more than once: %q", got)
	}
}

func onlyMatch(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%q matches %q", pattern, found)
	}
	return strings.Join(found, ""), err
}

// A start goes on with what was built of a branch; Prepare looks whether it has moved.
func TestBranchMoves(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	cfg, ledger := p.config("main")
	cache := WithCacheDir(t.TempDir())
	prepare := func() string {
		t.Helper()
		engine, _ := newLaunch(t, cfg, cache)
		prepared, err := engine.Prepare(patiently(t))
		if err != nil {
			t.Fatal(err)
		}
		return prepared.Binary.Path
	}
	first := prepare()
	p.commit(map[string]string{"new.txt": "1"})
	plan, err := planOf(bounded(t), cfg, cache)
	if err != nil || plan.Binary != first || len(plan.Pending) > 0 {
		t.Errorf("a start would run %q, not %q (%q, %v)", plan.Binary, first, plan.Pending, err)
	}
	second := prepare()
	if second == first {
		t.Error("the branch has moved, and it was not built")
	}
	if plan, err = planOf(bounded(t), cfg, cache); err != nil || plan.Binary != second {
		t.Errorf("a start would run %q, not %q (%v)", plan.Binary, second, err)
	}
	// A tag of the same commit is the same build.
	p.git("tag", "same")
	cfg.Provisioning.Source.Ref = "same"
	if third := prepare(); third != second {
		t.Errorf("one commit was built twice: %s and %s", second, third)
	}
	if got := ledger(); got != "configured\nconfigured\n" {
		t.Errorf("builds: %q", got)
	}
}

// A build that fails tells the compiler's first error and where the whole log is, and what it leaves is not taken for
// an engine.
func TestBuildFails(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	cfg, _ := p.config("main")
	cache := WithCacheDir(t.TempDir())
	for name, c := range map[string]struct {
		file, text, want string
	}{
		"compile": {"words.c", "int x = \"\";\nconst char *word(void) { return nothing; }\n", "error: "},
		"link":    {"words.c", "int nothing;\n", "undefined reference to"},
		"cmake":   {"CMakeLists.txt", "cmake_minimum_required(VERSION 3.14)\nproject(x C)\nmessage(FATAL_ERROR\n \"this engine needs more\")\n", "this engine needs more"},
		"no such executable": {
			"CMakeLists.txt", "cmake_minimum_required(VERSION 3.14)\nproject(x C)\nadd_custom_target(llama-server)\n",
			`no executable "llama-server" in what was built; name the target`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p.commit(map[string]string{"words.c": "const char *word(void) { return 0; }\n", "CMakeLists.txt": projectLists})
			p.commit(map[string]string{c.file: c.text})
			for range 2 {
				engine, _ := newLaunch(t, cfg, cache)
				_, err := engine.Prepare(patiently(t))
				wantText(t, err, "pool/r0: cannot prepare: cannot build llama-server: ", c.want, "[build_failed]")
				var failed *StartError
				if !errors.As(err, &failed) || failed.Retry {
					t.Fatalf("%+v", err)
				}
				log := string(mustRead(t, failed.LogPath))
				if !strings.Contains(log, c.want) && name != "no such executable" {
					t.Errorf("the log lacks %q:\n%s", c.want, log)
				}
			}
			if plan, err := planOf(bounded(t), cfg, cache); err != nil || len(plan.Pending) != 1 {
				t.Errorf("%+v, %v", plan, err)
			}
		})
	}
}

// What cannot be had at all is told before anything is built.
func TestNoSuchSource(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	cfg, _ := p.config("b9")
	engine, _ := newLaunch(t, cfg)
	_, err := engine.Prepare(patiently(t))
	wantText(t, err, "has no tag or branch \"b9\"; a commit must be written in full (40 digits)")
	cfg.Provisioning.Source.Ref = strings.Repeat("0", 40)
	engine, _ = newLaunch(t, cfg)
	_, err = engine.Prepare(patiently(t))
	wantText(t, err, "commit 000000000000 cannot be fetched from", "git fetch failed")
	cfg.Provisioning.Source.Repo = "./absent"
	cfg.Provisioning.Source.Ref = "main"
	engine, _ = newLaunch(t, cfg)
	_, err = engine.Prepare(patiently(t))
	wantText(t, err, `the repository "`+filepath.Join(cfg.Dir, "absent")+`" cannot be read: git ls-remote failed`, "does not appear to be a git repository")
	cfg.Dir = "" // in Go, that is the working directory
	here, err := filepath.Abs("absent")
	if err != nil {
		t.Fatal(err)
	}
	engine, _ = newLaunch(t, cfg)
	_, err = engine.Prepare(patiently(t))
	wantText(t, err, `the repository "`+here+`" cannot be read`)
}

// stuck is a project whose build hangs as long as a file is missing.
func stuck(p project, dir string) (pid, open string) {
	pid, open = filepath.Join(dir, "pid"), filepath.Join(dir, "open")
	p.commit(map[string]string{
		"CMakeLists.txt": projectLists + `
add_custom_command(OUTPUT gate COMMAND sh "${CMAKE_SOURCE_DIR}/gate.sh" COMMAND "${CMAKE_COMMAND}" -E touch gate)
add_custom_target(gates DEPENDS gate)
add_dependencies(llama-server gates)
`,
		"gate.sh": fmt.Sprintf("while [ ! -e '%s' ]; do sleep 300 & echo $! >>'%s'; wait; done\n", open, pid),
	})
	return pid, open
}

func pidIn(file string) int {
	data, _ := os.ReadFile(file)
	first, _, _ := strings.Cut(string(data), "\n")
	pid, _ := strconv.Atoi(first)
	return pid
}

// A build that is canceled ends with all its processes, and the next one goes on.
func TestBuildCanceled(t *testing.T) {
	t.Parallel()
	for name, generator := range map[string]string{"default": "", "make": "make"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t)
			cfg, _ := p.config("main")
			cfg.Provisioning.Source.Generator = generator
			pid, open := stuck(p, cfg.Dir)
			cache := WithCacheDir(t.TempDir())
			ctx, cancel := context.WithCancel(patiently(t))
			engine, _ := newLaunch(t, cfg, cache)
			done := make(chan error, 1)
			go func() {
				_, err := engine.Prepare(ctx)
				done <- err
			}()
			eventually(t, "the build hangs", func() bool { return pidIn(pid) > 0 })
			child := pidIn(pid)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			if alive(child) {
				t.Errorf("process %d of the build is left", child)
			}
			if err := os.WriteFile(open, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			engine, _ = newLaunch(t, cfg, cache)
			if err := engine.Start(patiently(t)); err != nil {
				t.Fatal(err)
			}
			if _, err := engine.WaitReady(patiently(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A stop ends a start that builds, with all that the build has started.
func TestStopWhileBuilding(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	cfg, _ := p.config("main")
	pid, _ := stuck(p, cfg.Dir)
	engine, j := newLaunch(t, cfg)
	done := make(chan error, 1)
	go func() { done <- engine.Start(patiently(t)) }()
	eventually(t, "the build hangs", func() bool { return pidIn(pid) > 0 })
	if err := engine.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrStopped) {
		t.Errorf("%v", err)
	}
	if alive(pidIn(pid)) {
		t.Errorf("process %d of the build is left", pidIn(pid))
	}
	wantStates(t, j, StatePreparing, StateStopped)
}

// Of two who need the same build at once, one builds and the other waits.
func TestTwoBuildAtOnce(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	cfg, ledger := p.config("main")
	pid, open := stuck(p, cfg.Dir)
	cache := WithCacheDir(t.TempDir())
	var all sync.WaitGroup
	var waits sync.Map
	opened := sync.OnceFunc(func() {
		if err := os.WriteFile(open, nil, 0o600); err != nil {
			t.Error(err)
		}
		// The gate looks at the file when its sleep ends.
		_ = exec.Command("kill", strings.TrimSpace(string(mustRead(t, pid)))).Run()
	})
	for i := range 2 {
		engine, _ := newLaunch(t, cfg, cache, WithEventFunc(func(e Event) {
			if e.Progress != nil && e.Progress.Waiting {
				waits.Store(i, e.Progress.String())
				go func() {
					for deadline := time.Now().Add(patience); pidIn(pid) == 0 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
					}
					opened()
				}()
			}
		}))
		all.Go(func() {
			if _, err := engine.Prepare(patiently(t)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n := 0
	waits.Range(func(_, words any) bool {
		n++
		return words == "waiting for another replica that is building llama-server" || fail(t, words)
	})
	if got := ledger(); n != 1 || got != "configured\n" {
		t.Errorf("%d have waited; builds: %q", n, got)
	}
}

func fail(t testing.TB, got any) bool { t.Errorf("%v", got); return true }

const buildOrderEnv = "TEST_BUILD_ORDER"

// TestBuildInChild is no test of its own: TestBuilderKilled runs it in a process that it kills.
func TestBuildInChild(t *testing.T) {
	order := os.Getenv(buildOrderEnv)
	if order == "" {
		return
	}
	var cfg struct {
		ProvisionConfig
		Cache, State, Dir string
	}
	if err := json.Unmarshal([]byte(order), &cfg); err != nil {
		t.Fatal(err)
	}
	c := cfg.ProvisionConfig
	c.PoolID, c.ReplicaID, c.StateDir, c.Dir = "pool", "r0", cfg.State, cfg.Dir
	p, err := New(c, WithCacheDir(cfg.Cache))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Prepare(context.Background())
	t.Fatalf("not killed: %v", err)
}

// Who waits for another process's build says for whom, and stops to wait when it is stopped. A builder that is killed leaves
// its compilers at work: nobody builds in their midst, or waits for ones that hang. Who comes next ends them.
func TestBuilderKilled(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	cfg, ledger := p.config("main")
	pid, open := stuck(p, cfg.Dir)
	cache := t.TempDir()
	order, err := json.Marshal(struct {
		ProvisionConfig
		Cache, State, Dir string
	}{cfg, cache, cfg.StateDir, cfg.Dir})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestBuildInChild$")
	cmd.Env = append(os.Environ(), buildOrderEnv+"="+string(order))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the build hangs", func() bool { return pidIn(pid) > 0 })
	ctx, cancel := context.WithCancel(patiently(t))
	holder := ""
	impatient, _ := newLaunch(t, cfg, WithCacheDir(cache), WithEventFunc(func(e Event) {
		if e.Progress != nil && e.Progress.Waiting {
			holder = e.Progress.Holder
			cancel()
		}
	}))
	if _, err := impatient.Prepare(ctx); !errors.Is(err, context.Canceled) || !strings.HasPrefix(holder, fmt.Sprintf("pid %d (since ", cmd.Process.Pid)) {
		t.Errorf("it waits for %q: %v", holder, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	sleeper := pidIn(pid)
	if !alive(sleeper) {
		t.Fatal("the build has not outlived its builder: this test proves nothing")
	}
	if err := os.WriteFile(open, nil, 0o600); err != nil { // for the next build: the old one sleeps on
		t.Fatal(err)
	}
	engine, j := newLaunch(t, cfg, WithCacheDir(cache))
	if _, err := engine.Prepare(patiently(t)); err != nil {
		t.Error(err)
	}
	told := fmt.Sprintf("that pid %d (since ", cmd.Process.Pid)
	if notes := j.notes(); alive(sleeper) || !strings.Contains(notes, told) {
		t.Errorf("the sleeper lives: %v; notes: %q", alive(sleeper), notes)
	}
	want := "configured\n"
	if _, err := exec.LookPath("ninja"); err != nil {
		want += want // what make was killed at is not trusted
	}
	if got := ledger(); got != want {
		t.Errorf("builds: %q, want %q", got, want)
	}
}
