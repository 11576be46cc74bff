package acquire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/cmake"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// build is one build in its entry of the cache: the source in "src", the build in "build", and marks of what is done
// beside them. It goes on where an earlier one was interrupted, as far as what that has left can be trusted.
type build struct {
	Source
	entry  cache.Entry
	tools  cmake.Tools
	commit string
	tell   Listener

	shop tool.Shop
}

// The marks. Make takes the half of a file that a killed compiler has written for the whole, so that a build which it
// was killed in begins anew; ninja knows what it has finished.
const (
	markFetched    = "fetched"    // the source is whole
	markConfigured = "configured" // cmake has ended well
	markBuilding   = "building"   // make is at work, or was killed at it
)

const buildLog = "build.log"

func (b build) make(ctx context.Context, lock *os.File) (cache.Manifest, error) {
	log, err := atomicfile.New(b.entry.Path(buildLog))
	if err != nil {
		return cache.Manifest{}, b.fail(err)
	}
	defer log.Close()
	b.shop = tool.Shop{
		Dir: b.entry.Dir, For: environ.Build, Secrets: b.Secrets, Log: log, Lock: lock,
		// The folder is another for each commit, and so would be the hash of each file.
		Env: []string{"CCACHE_BASEDIR=" + b.entry.Dir, "CCACHE_NOHASHDIR=1"},
	}
	for _, step := range []func(context.Context) error{b.fetch, b.configure, b.compile} {
		if err := step(ctx); err != nil {
			return cache.Manifest{}, b.explain(ctx, err)
		}
	}
	path, err := findExecutable(b.entry.Path("build"), b.name())
	if errors.Is(err, errNoExecutable) {
		err = fmt.Errorf("%w in what was built; name the target that makes it in \"targets\"", err)
	}
	if err != nil {
		return cache.Manifest{}, b.explain(ctx, err)
	}
	relative, err := filepath.Rel(b.entry.Dir, path)
	if err != nil {
		return cache.Manifest{}, b.explain(ctx, err)
	}
	what := fmt.Sprintf("%s of %s at %s (commit %.12s)", b.name(), b.repo(), b.Config.Ref, b.commit)
	return cache.Manifest{What: what, Executable: relative}, nil
}

// explain says what went wrong first: what a build says last is rarely the reason.
func (b build) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var already *Error
	if errors.As(err, &already) {
		already.Log = b.entry.Path(buildLog)
		return already
	}
	var failure *tool.Error
	failed := b.fail(err)
	failed.Log = b.entry.Path(buildLog)
	if errors.As(err, &failure) {
		if first := cmake.FirstError(tail.All(failed.Log)); first != "" {
			failed.Err = fmt.Errorf("%s failed: %q", failure.Command, tail.Cut(first))
			if remedy := cmake.Remedy(first); remedy != "" {
				failed.Err = fmt.Errorf("%w; %s", failed.Err, remedy)
			}
		}
		failed.Err = tool.BlameDisk(failed.Err, b.entry.Dir, failure.Lines)
	}
	return failed
}

func (b build) marked(mark string) bool {
	_, err := os.Lstat(b.entry.Path(mark))
	return err == nil
}

func (b build) mark(mark string) error { return atomicfile.Replace(b.entry.Path(mark), nil) }

// fetch brings the one commit, without what was before it.
func (b build) fetch(ctx context.Context) error {
	if b.marked(markFetched) {
		return nil
	}
	b.tell.Progress(Progress{Step: StepFetch, What: b.Config.Ref})
	if err := b.entry.Clear("src", "build", markConfigured, markBuilding); err != nil { // git leaves locks behind when it is killed
		return err
	}
	if err := os.Mkdir(b.entry.Path("src"), 0o700); err != nil {
		return err
	}
	in := b.shop
	in.Dir, in.For = b.entry.Path("src"), environ.Git
	// No process of git's may stay in the background: it would hold the lock.
	quiet := []string{"-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "advice.detachedHead=false", "-c", "core.fsmonitor=false"}
	steps := [][]string{
		{"init", "--quiet"},
		{"fetch", "--depth=1", "--no-tags", "--", b.repo(), b.commit},
		{"checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"},
	}
	if b.Config.Submodules {
		// A relative URL of a submodule counts from the remote.
		steps = append(steps, []string{"remote", "add", "origin", b.repo()},
			[]string{"submodule", "update", "--init", "--recursive", "--depth=1"})
	}
	for _, step := range steps {
		if err := in.Run(ctx, b.tools.Git, append(quiet, step...)...); err != nil {
			var failure *tool.Error
			if errors.As(err, &failure) && step[0] != "init" {
				failure.Command = "git " + step[0]
				failed := b.fail(fmt.Errorf("commit %.12s cannot be fetched from %q: %w", b.commit, b.repo(), err))
				failed.Retry = !localRepo(b.Config.Repo)
				return failed
			}
			return err
		}
	}
	return b.mark(markFetched)
}

// engineFlags are what the engine needs, below the configuration's own.
func (s Source) engineFlags(commit string) []string {
	if s.Flags == nil {
		return nil
	}
	return s.Flags(s.Config.Ref, commit)
}

func (b build) configure(ctx context.Context) error {
	if b.marked(markConfigured) && (!b.marked(markBuilding) || b.tools.Generator == "Ninja") {
		return nil
	}
	err := b.configureWith(ctx, nil)
	var failure *tool.Error
	if err == nil || !errors.As(err, &failure) || b.tools.NVCC == "" {
		return err
	}
	// nvcc takes no compiler that is newer than itself; another one may be there.
	for _, name := range cmake.HostCompilers(failure.Lines) {
		if compiler, missing := exec.LookPath(name); missing == nil {
			return b.configureWith(ctx, []string{"-DCMAKE_CUDA_HOST_COMPILER=" + compiler})
		}
	}
	if names := cmake.HostCompilers(failure.Lines); len(names) > 0 {
		return b.fail(fmt.Errorf("nvcc refuses the C++ compiler as too new, and none of %s is in PATH; install %s",
			strings.Join(names, ", "), names[0]))
	}
	return err
}

func (b build) configureWith(ctx context.Context, more []string) error {
	if err := b.entry.Clear("build", markConfigured, markBuilding); err != nil {
		return err
	}
	b.tell.Progress(Progress{Step: StepConfigure, What: b.name()})
	args := []string{"-S", b.entry.Path("src"), "-B", b.entry.Path("build"), "-G", b.tools.Generator, "-DCMAKE_BUILD_TYPE=Release"}
	if b.tools.CCache != "" {
		args = append(args, "-DCMAKE_C_COMPILER_LAUNCHER="+b.tools.CCache, "-DCMAKE_CXX_COMPILER_LAUNCHER="+b.tools.CCache)
	}
	if b.tools.NVCC != "" {
		if b.tools.CCache != "" {
			args = append(args, "-DCMAKE_CUDA_COMPILER_LAUNCHER="+b.tools.CCache)
		}
		if !b.tools.NVCCInPath {
			root := filepath.Dir(filepath.Dir(b.tools.NVCC))
			args = append(args, "-DCMAKE_CUDA_COMPILER="+b.tools.NVCC, "-DCUDAToolkit_ROOT="+root)
		}
	}
	args = append(args, b.engineFlags(b.commit)...)
	args = append(args, more...)
	args = append(args, b.flags()...)
	if err := b.shop.Run(ctx, b.tools.CMake, args...); err != nil {
		return err
	}
	// Older projects fall back to the CPU with a warning when they do not find CUDA.
	if b.tools.NVCC != "" && !b.usesCUDA() {
		return b.fail(errors.New("CUDA was asked for, and the project was configured without it; the log says why"))
	}
	b.noteUnused()
	return b.mark(markConfigured)
}

// noteUnused tells of variables that the project does not know: most likely their names are misspelled.
func (b build) noteUnused() {
	for _, name := range cmake.Unused(tail.All(b.shop.Log.Name())) {
		if _, ours := cmake.Flags(b.engineFlags(b.commit)).Value(name); ours {
			continue
		}
		if _, users := b.flags().Value(name); users {
			b.tell.Note(fmt.Sprintf("the project does not know %q of \"cmake_flags\"; is it spelled right?", name))
		}
	}
}

// usesCUDA reports whether CMake has found a CUDA compiler that works.
func (b build) usesCUDA() bool {
	cache, err := os.ReadFile(b.entry.Path("build", "CMakeCache.txt"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(cache)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), "="); strings.HasPrefix(name, "CMAKE_CUDA_COMPILER:") {
			return value != "" && !strings.HasSuffix(value, "NOTFOUND")
		}
	}
	return false
}

func (b build) compile(ctx context.Context) error {
	if err := b.mark(markBuilding); err != nil {
		return err
	}
	b.tell.Progress(Progress{Step: StepBuild, What: b.name()})
	last := Progress{Step: StepBuild, What: b.name()}
	stop := b.shop.Follow(func(line string) {
		now := Progress{Step: StepBuild, What: b.name()}
		var ok bool
		if now.Done, now.Total, ok = cmake.BuildProgress(line); ok && now.Done > last.Done {
			last = now
			b.tell.Progress(now)
		}
	})
	args := []string{"--build", b.entry.Path("build"), "--config", "Release", "--parallel", fmt.Sprint(b.jobs()), "--target"}
	err := b.shop.Run(ctx, b.tools.CMake, append(args, b.targets()...)...)
	stop()
	var exit *exec.ExitError
	if err == nil || ctx.Err() == nil && errors.As(err, &exit) && exit.Exited() {
		return errors.Join(err, b.entry.Clear(markBuilding))
	}
	return err
}

// jobs is as many compilers as there are CPUs, but each has 2 GiB: CUDA's need that much, and a machine that swaps builds
// nothing.
func (b build) jobs() int {
	if b.Config.Jobs > 0 {
		return b.Config.Jobs
	}
	n := runtime.GOMAXPROCS(0) // it heeds a limit of the cgroup
	if free := cgroup.MemoryAvailable(); free > 0 {
		n = min(n, max(1, int(free>>31)))
	}
	return n
}

// trim removes what only the build needed, which with CUDA is gigabytes of objects. What it cannot remove does no harm.
func (b build) trim() {
	_ = b.entry.Clear(markFetched, markConfigured, markBuilding, "src") // the marks first: what is left then is not gone on with
	_ = filepath.WalkDir(b.entry.Path("build"), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "CMakeFiles":
			return errors.Join(os.RemoveAll(path), fs.SkipDir)
		case d.Type().IsRegular() && (strings.HasSuffix(path, ".a") || strings.HasSuffix(path, ".o")):
			return os.Remove(path)
		}
		return nil
	})
}
