package acquire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/cmake"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/pylock"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// Package is an executable that comes with a Python package, in a virtual environment of its own.
//
// What is installed is decided by the lock: every package with its version and checksum, as the installer has resolved
// them or as a file says. As with a build, a start takes what was installed for the configuration last, and Prepare
// resolves the requirements anew.
type Package struct {
	Cache   cache.Cache
	Config  PackageConfig
	Dir     string          // what relative paths refer to, and where the installers run
	Command string          // the executable that a package brings
	Secrets environ.Secrets // of the configuration, which the installers do not get
}

// installer is what makes the environment.
type installer struct {
	name   string // "uv" or "pip"
	uv     string // its path; "" for pip
	python string // the interpreter's path; with uv, it may be a version
}

func (p Package) fail(err error) *Error {
	return &Error{What: "cannot install " + p.Command, Err: err}
}

// wanted names what is installed, for people.
func (p Package) wanted() string {
	if p.Config.Lock != "" {
		return under(p.Dir, p.Config.Lock)
	}
	return strings.Join(p.Config.Requirements, ", ")
}

// memory stands for the configuration.
func (p Package) memory() string {
	return cache.Hash("package", p.Dir, p.Config, p.Command)
}

// Find finds what was installed for these requirements last.
func (p Package) Find(context.Context) (path, pending string, err error) {
	// A lock is as quick to read as a note, and says for certain what is meant.
	if e, _, ok := p.Cache.Last("package", p.memory()); ok && !p.lockChanged(e) {
		if path := e.Executable(); path != "" {
			e.Used()
			return path, "", nil
		}
	}
	with, err := p.installer()
	if err != nil {
		return "", "", err
	}
	return "", fmt.Sprintf("install %s with %s into an environment of %s", p.wanted(), with.name, with.python), nil
}

// lockChanged reports whether the file is not what the entry was installed from.
func (p Package) lockChanged(e cache.Entry) bool {
	if p.Config.Lock == "" {
		return false
	}
	now, err := os.ReadFile(under(p.Dir, p.Config.Lock))
	if err != nil {
		return false // what is installed is good without it
	}
	then, err := os.ReadFile(e.Path(filepath.Base(p.Config.Lock)))
	return err != nil || string(now) != string(then)
}

// installer finds uv or pip, and the interpreter.
func (p Package) installer() (installer, error) {
	with := installer{name: p.Config.Installer, python: p.Config.Python}
	path, err := exec.LookPath("uv")
	switch {
	case err == nil && with.name != "pip":
		with.name, with.uv = "uv", path
	case with.name == "uv":
		return with, p.fail(errors.New("there is no uv in PATH; install it, or set \"installer: pip\""))
	default:
		with.name = "pip"
	}
	if pythonVersion.MatchString(with.python) {
		if with.uv != "" {
			return with, nil // uv knows more places than PATH
		}
		with.python = "python" + with.python
	}
	name := cmp.Or(with.python, "python3")
	if strings.ContainsRune(name, filepath.Separator) {
		name = under(p.Dir, name)
	}
	if with.python, err = exec.LookPath(name); err != nil {
		return with, p.fail(fmt.Errorf("there is no Python %q; install it, or set \"python\"", name))
	}
	with.python, err = filepath.Abs(with.python)
	return with, err
}

// Get installs it, as the requirements are resolved today.
func (p Package) Get(ctx context.Context, tell Listener) (string, error) {
	with, err := p.installer()
	if err != nil {
		return "", err
	}
	if with.uv == "" {
		if err := p.checkPip(ctx, with); err != nil {
			return "", err
		}
	}
	if p.Config.Lock == "" {
		tell.Progress(Progress{Step: StepResolve, What: p.wanted()})
	}
	lock, err := p.lock(ctx, with)
	if err != nil {
		last, _, ok := p.Cache.Last("package", p.memory())
		if path := last.Executable(); ok && path != "" && ctx.Err() == nil {
			tell.Note(fmt.Sprintf("what was installed last is used: %v", err))
			return path, nil
		}
		return "", err
	}
	python := []any{with.python}
	if info, err := os.Stat(with.python); err == nil {
		python = append(python, info.Size(), info.ModTime().UnixNano())
	}
	key := cache.Hash(1, lock.Text, python, with.name, p.Config.ExtraArgs, p.Command)
	e, err := p.Cache.Entry("package", key)
	if err != nil {
		return "", p.fail(err)
	}
	work := Progress{Step: StepInstall, What: p.Command}
	path, err := e.Get(ctx, watcher(work, tell), func(file *os.File) (cache.Manifest, error) {
		tell.Progress(work)
		i := installation{Package: p, entry: e, with: with, lock: lock, tell: tell}
		return i.make(ctx, file)
	})
	if err == nil {
		p.Cache.Remember("package", p.memory(), e, "")
	}
	return path, err
}

// checkPip finds out whether the interpreter has a pip that can install into another environment, without bringing
// itself along.
func (p Package) checkPip(ctx context.Context, with installer) error {
	version, err := p.shop().Output(ctx, with.python, "-c", "import pip, venv; print(pip.__version__)")
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var major, minor int
	if _, bad := fmt.Sscanf(version, "%d.%d", &major, &minor); err == nil && bad == nil && (major > 22 || major == 22 && minor >= 3) {
		return nil
	}
	advice := "install pip 22.3 or newer for it, or install uv"
	if (cmake.Machine{}).Family() == "debian" && err != nil {
		advice = `install with "apt-get install python3-pip", or install uv`
	}
	return p.fail(fmt.Errorf("the Python %q has no pip, or one that is too old; %s", with.python, advice))
}

func (p Package) shop() tool.Shop {
	return tool.Shop{
		Dir: cmp.Or(p.Dir, "."), For: environ.Install, Secrets: p.Secrets,
		Env: []string{"PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_INPUT=1", "UV_NO_PROGRESS=1", "PYTHONNOUSERSITE=1"},
	}
}

// lock is what is to be installed, to the last package.
func (p Package) lock(ctx context.Context, with installer) (pylock.Lock, error) {
	if p.Config.Lock != "" {
		text, err := os.ReadFile(under(p.Dir, p.Config.Lock))
		if err != nil {
			return pylock.Lock{}, p.fail(fmt.Errorf("cannot read the lock: %w", err))
		}
		return pylock.Read(filepath.Base(p.Config.Lock), string(text)), nil
	}
	return p.resolve(ctx, with, "")
}

// resolve asks the installer what it would install: for the requirements, or, without a look at what else those need, for
// the packages of a lock.
func (p Package) resolve(ctx context.Context, with installer, lock string) (pylock.Lock, error) {
	dir, err := os.MkdirTemp("", "engine-provisioner-lock-*")
	if err != nil {
		return pylock.Lock{}, p.fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if with.uv != "" {
		input, file := []string{lock, "--no-deps"}, filepath.Join(dir, "pylock.toml")
		if lock == "" {
			input = []string{filepath.Join(dir, "requirements.in")}
			if err := os.WriteFile(input[0], []byte(strings.Join(p.Config.Requirements, "\n")+"\n"), 0o600); err != nil {
				return pylock.Lock{}, p.fail(err)
			}
		}
		args := []string{
			"pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", with.python, "--format", "pylock.toml", "-o", file,
		}
		if _, err := p.shop().Output(ctx, with.uv, slices.Concat(args, p.Config.ExtraArgs, input)...); err != nil {
			return pylock.Lock{}, p.explain(ctx, "", err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return pylock.Lock{}, p.fail(err)
		}
		return pylock.Read("pylock.toml", string(text)), nil
	}
	input, file := p.Config.Requirements, filepath.Join(dir, "report.json")
	if lock != "" {
		input = []string{"--no-deps", "-r", lock}
	}
	args := []string{"-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", file}
	if _, err := p.shop().Output(ctx, with.python, slices.Concat(args, p.Config.ExtraArgs, input)...); err != nil {
		return pylock.Lock{}, p.explain(ctx, "", err)
	}
	report, err := os.ReadFile(file)
	if err != nil {
		return pylock.Lock{}, p.fail(err)
	}
	resolved, err := pylock.OfReport(report)
	if err != nil {
		return pylock.Lock{}, p.fail(fmt.Errorf("cannot read what pip has resolved: %w", err))
	}
	return resolved, nil
}

var (
	installFailed = lazyregexp.New(`^(ERROR|error|Error)\b|^\s*×`)
	networkFailed = lazyregexp.New(`(?i)connection|timed out|timeout|temporary failure|network|dns error|name resolution|50[0234] `)
)

// explain says what the installer said of its failure.
func (p Package) explain(ctx context.Context, log string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var failure *tool.Error
	var already *Error
	if errors.As(err, &already) {
		return already
	}
	failed := p.fail(err)
	failed.Log = log
	if errors.As(err, &failure) {
		if i := slices.IndexFunc(failure.Lines, installFailed.MatchString); i >= 0 {
			said := strings.Join(failure.Lines[i:min(len(failure.Lines), i+3)], " ")
			failed.Err = fmt.Errorf("%s failed: %q", failure.Command, tail.Cut(strings.Join(strings.Fields(said), " ")))
		}
		failed.Retry = slices.ContainsFunc(failure.Lines, networkFailed.MatchString)
		if log != "" {
			failed.Err = tool.BlameDisk(failed.Err, filepath.Dir(log), failure.Lines)
		}
	}
	return failed
}

// pythonVersion is a version alone, such as "3.12".
var pythonVersion = lazyregexp.New(`^3(\.[0-9]{1,2}){0,2}$`)
