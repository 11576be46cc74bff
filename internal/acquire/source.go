package acquire

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/cmake"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// Source is an executable that is built from source.
//
// What is built is decided by the commit, the flags and the toolchain. A start takes what was built for the configuration
// last: neither a branch that has moved nor a new compiler makes an engine that crashed wait for a build. Prepare looks at both.
type Source struct {
	Cache   cache.Cache
	Config  SourceConfig
	Dir     string                            // what a relative path of a repository refers to
	Command string                            // the engine's usual executable
	Flags   func(ref, commit string) []string // what the engine needs of cmake, below the configuration's own; nil for nothing
	Secrets environ.Secrets                   // of the configuration, which neither git nor the build gets
}

var fullCommit = lazyregexp.New(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// name is what is built, for people.
func (s Source) name() string { return filepath.Base(s.Command) }

func (s Source) targets() []string {
	if len(s.Config.Targets) > 0 {
		return s.Config.Targets
	}
	return []string{s.name()}
}

// repo is the repository as git takes it.
func (s Source) repo() string {
	if !localRepo(s.Config.Repo) {
		return s.Config.Repo
	}
	path := under(s.Dir, s.Config.Repo)
	if abs, err := filepath.Abs(path); err == nil { // git runs in other folders
		return abs
	}
	return path
}

// localRepo reports whether a repository is a folder on this node: "host:path" is none.
func localRepo(repo string) bool {
	colon := strings.IndexByte(repo, ':')
	return colon < 0 || strings.IndexByte(repo, '/') < colon && strings.Contains(repo, "/")
}

// flags are the configuration's, by their names of today.
func (s Source) flags() cmake.Flags { return cmake.Current(s.Config.CMakeFlags) }

// Find finds what was built for these settings last.
func (s Source) Find(ctx context.Context) (path, pending string, err error) {
	if e, _, ok := s.Cache.Last("source", s.memory()); ok {
		if path := e.Executable(); path != "" {
			e.Used()
			return path, "", nil
		}
	}
	tools, err := s.tools()
	if err != nil {
		return "", "", err
	}
	compilers := tools.CXX
	if tools.NVCC != "" {
		compilers += " and " + tools.NVCC
	}
	return "", s.With(tools.Generator + ", " + compilers + " and"), nil
}

// With says what is built, by what tools and with which flags.
func (s Source) With(tools string) string {
	flags := append([]string{"-DCMAKE_BUILD_TYPE=Release"}, s.engineFlags("")...)
	return fmt.Sprintf("build %s from %s at %s with %s %s", strings.Join(s.targets(), ", "), s.repo(), s.Config.Ref,
		tools, strings.Join(append(flags, s.flags()...), " "))
}

// tools are the programs that the build needs.
func (s Source) tools() (cmake.Tools, error) {
	flags := s.flags()
	tools, err := cmake.Machine{Look: exec.LookPath, Env: os.Getenv}.Find(cmake.Need{
		CUDA: flags.On("GGML_CUDA"), Generator: s.Config.Generator, Flags: flags,
	})
	if err != nil {
		return tools, s.fail(err)
	}
	return tools, nil
}

func (s Source) fail(err error) *Error {
	return &Error{What: fmt.Sprintf("cannot build %s", s.name()), Err: err}
}

// Get builds it, of the commit that the reference stands for today.
func (s Source) Get(ctx context.Context, tell Listener) (string, error) {
	tools, err := s.tools()
	if err != nil {
		return "", err
	}
	tell.Progress(Progress{Step: StepFetch, What: s.Config.Ref})
	shop := tool.Shop{Dir: "/", For: environ.Git, Secrets: s.Secrets} // where nobody else can have put a repository, with settings that git would heed
	commit, err := s.commit(ctx, shop, tools.Git, tell)
	if err != nil {
		return "", err
	}
	key, err := s.key(commit, tools)
	if err != nil {
		return "", s.fail(err)
	}
	e, err := s.Cache.Entry("source", key)
	if err != nil {
		return "", s.fail(err)
	}
	b, made := build{Source: s, entry: e, tools: tools, commit: commit, tell: tell}, false
	path, err := e.Get(ctx, watcher(Progress{Step: StepBuild, What: s.name()}, tell), func(lock *os.File) (cache.Manifest, error) {
		made = true
		return b.make(ctx, lock)
	})
	if err != nil {
		return "", err
	}
	if made {
		b.trim()
	}
	s.Cache.Remember("source", s.memory(), e, commit)
	return path, nil
}

// commit is what the reference stands for now; without the repository at hand, what it stood for last.
func (s Source) commit(ctx context.Context, shop tool.Shop, git string, tell Listener) (string, error) {
	ref := s.Config.Ref
	if fullCommit.MatchString(ref) {
		return ref, nil
	}
	names := []string{"refs/tags/" + ref + "^{}", "refs/tags/" + ref, "refs/heads/" + ref, ref}
	out, err := shop.Output(ctx, git, append([]string{"ls-remote", "--", s.repo()}, names...)...)
	if err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		if _, commit, ok := s.Cache.Last("source", s.memory()); ok && fullCommit.MatchString(commit) {
			tell.Note(fmt.Sprintf("the repository %q cannot be read, so what %q stood for last is used (commit %.12s)", s.repo(), ref, commit))
			return commit, nil
		}
		failed := s.fail(fmt.Errorf("the repository %q cannot be read: %w", s.repo(), err))
		failed.Retry = !localRepo(s.Config.Repo)
		return "", failed
	}
	found := map[string]string{}
	for line := range strings.Lines(out) {
		if hash, name, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok && fullCommit.MatchString(hash) {
			found[name] = hash
		}
	}
	for _, name := range names {
		if hash := found[name]; hash != "" {
			return hash, nil
		}
	}
	return "", s.fail(fmt.Errorf("%q has no tag or branch %q; a commit must be written in full (40 digits)", s.repo(), ref))
}

// key stands for everything that decides what is built.
func (s Source) key(commit string, tools cmake.Tools) (string, error) {
	parts := []any{
		1, commit, s.Config.Submodules, s.flags(), s.engineFlags(commit), s.targets(), tools.Generator, s.Command, s.processor(),
	}
	for _, tool := range []string{tools.CMake, tools.CC, tools.CXX, tools.NVCC} {
		if tool == "" {
			continue
		}
		// An upgrade replaces the file. To ask each one for its version would take longer than a start.
		file, err := filepath.EvalSymlinks(tool)
		if err != nil {
			return "", err
		}
		info, err := os.Stat(file)
		if err != nil {
			return "", err
		}
		parts = append(parts, tool, file, info.Size(), info.ModTime().UnixNano())
	}
	for _, entry := range (tool.Shop{For: environ.Build, Secrets: s.Secrets}).Environment() {
		if name, _, _ := strings.Cut(entry, "="); environ.Match(decisive, name) {
			parts = append(parts, entry)
		}
	}
	return cache.Hash(parts...), nil
}

// decisive are variables that decide what compilers make.
var decisive = []string{"CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CUDACXX", "CUDAFLAGS", "CUDAHOSTCXX", "CMAKE_*"}

// processor tells processors apart that need builds of their own: by default a build is for the processor at hand, and
// a cache may be shared by machines.
func (s Source) processor() string {
	if value, ok := s.flags().Value("GGML_NATIVE"); ok && !s.flags().On("GGML_NATIVE") {
		return cmp.Or(value, "portable")
	}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); { // the first of maybe hundreds is enough
		if line := lines.Text(); strings.HasPrefix(line, "flags") || strings.HasPrefix(line, "Features") {
			return line
		}
	}
	return ""
}

// memory stands for the configuration.
func (s Source) memory() string {
	return cache.Hash("source", s.repo(), s.Config.Ref, s.Config.Submodules, s.flags(), s.targets(), s.Config.Generator,
		s.Command, s.processor())
}

var errNoExecutable = errors.New("there is no executable")

// findExecutable looks for a program by its name; the one nearest to the top wins.
func findExecutable(dir, name string) (string, error) {
	best := ""
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "CMakeFiles" {
			return fs.SkipDir
		}
		if d.Name() != name || !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Mode()&0o111 != 0 && (best == "" || strings.Count(path, "/") < strings.Count(best, "/")) {
			best = path
		}
		return err
	})
	if err == nil && best == "" {
		err = fmt.Errorf("%w %q", errNoExecutable, name)
	}
	return best, err
}
