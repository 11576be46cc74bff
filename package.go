package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/cmake"
	"github.com/llama-orch/engine-provisioner/internal/pylock"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// pythonPackage is an executable that comes with a Python package, in a virtual environment of its own.
//
// What is installed is decided by the lock: every package with its version and checksum, as the installer has resolved
// them or as a file says. As with a build, a start takes what was installed for the configuration last, and Prepare
// resolves the requirements anew.
type pythonPackage struct {
	opts    *options
	cfg     ProvisionConfig
	pkg     PackageConfig
	program engine.Program
}

// installer is what makes the environment.
type installer struct {
	name   string // "uv" or "pip"
	uv     string // its path; "" for pip
	python string // the interpreter's path; with uv, it may be a version
}

func (p pythonPackage) fail(err error) *provisionError {
	return &provisionError{what: "cannot install " + p.program.Command, err: err}
}

// wanted names what is installed, for people.
func (p pythonPackage) wanted() string {
	if p.pkg.Lock != "" {
		return p.cfg.resolve(p.pkg.Lock)
	}
	return strings.Join(p.pkg.Requirements, ", ")
}

// memory stands for the configuration.
func (p pythonPackage) memory() string {
	return cache.Hash("package", p.cfg.Dir, p.pkg, p.program.Command)
}

func (p pythonPackage) find(context.Context) (path, pending string, err error) {
	// A lock is as quick to read as a note, and says for certain what is meant.
	if e, _, ok := p.opts.store().Last("package", p.memory()); ok && !p.lockChanged(e) {
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
func (p pythonPackage) lockChanged(e cache.Entry) bool {
	if p.pkg.Lock == "" {
		return false
	}
	now, err := os.ReadFile(p.cfg.resolve(p.pkg.Lock))
	if err != nil {
		return false // what is installed is good without it
	}
	then, err := os.ReadFile(e.Path(filepath.Base(p.pkg.Lock)))
	return err != nil || string(now) != string(then)
}

// installer finds uv or pip, and the interpreter.
func (p pythonPackage) installer() (installer, error) {
	with := installer{name: p.pkg.Installer, python: p.pkg.Python}
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
		name = p.cfg.resolve(name)
	}
	if with.python, err = exec.LookPath(name); err != nil {
		return with, p.fail(fmt.Errorf("there is no Python %q; install it, or set \"python\"", name))
	}
	with.python, err = filepath.Abs(with.python)
	return with, err
}

func (p pythonPackage) get(ctx context.Context, tell listener) (string, error) {
	with, err := p.installer()
	if err != nil {
		return "", err
	}
	if with.uv == "" {
		if err := p.checkPip(ctx, with); err != nil {
			return "", err
		}
	}
	if p.pkg.Lock == "" {
		tell.progress(Progress{Step: StepResolve, What: p.wanted()})
	}
	lock, err := p.lock(ctx, with)
	if err != nil {
		last, _, ok := p.opts.store().Last("package", p.memory())
		if path := last.Executable(); ok && path != "" && ctx.Err() == nil {
			tell.note(fmt.Sprintf("what was installed last is used: %v", err))
			return path, nil
		}
		return "", err
	}
	python := []any{with.python}
	if info, err := os.Stat(with.python); err == nil {
		python = append(python, info.Size(), info.ModTime().UnixNano())
	}
	key := cache.Hash(1, lock.Text, python, with.name, p.pkg.ExtraArgs, p.program.Command)
	e, err := p.opts.store().Entry("package", key)
	if err != nil {
		return "", p.fail(err)
	}
	work := Progress{Step: StepInstall, What: p.program.Command}
	path, err := e.Get(ctx, watcher(work, tell), func(file *os.File) (cache.Manifest, error) {
		tell.progress(work)
		i := installation{pythonPackage: p, entry: e, with: with, lock: lock, tell: tell}
		return i.make(ctx, file)
	})
	if err == nil {
		p.opts.store().Remember("package", p.memory(), e, "")
	}
	return path, err
}

// checkPip finds out whether the interpreter has a pip that can install into another environment, without bringing
// itself along.
func (p pythonPackage) checkPip(ctx context.Context, with installer) error {
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

func (p pythonPackage) shop() tool.Shop {
	return tool.Shop{
		Dir: cmp.Or(p.cfg.Dir, "."), Kept: []string{"PIP_*", "UV_*"},
		Env: []string{"PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_INPUT=1", "UV_NO_PROGRESS=1", "PYTHONNOUSERSITE=1"},
	}
}

// lock is what is to be installed, to the last package.
func (p pythonPackage) lock(ctx context.Context, with installer) (pylock.Lock, error) {
	if p.pkg.Lock != "" {
		text, err := os.ReadFile(p.cfg.resolve(p.pkg.Lock))
		if err != nil {
			return pylock.Lock{}, p.fail(fmt.Errorf("cannot read the lock: %w", err))
		}
		return pylock.Read(filepath.Base(p.pkg.Lock), string(text)), nil
	}
	return p.resolve(ctx, with, "")
}

// resolve asks the installer what it would install: for the requirements, or, without a look at what else those need, for
// the packages of a lock.
func (p pythonPackage) resolve(ctx context.Context, with installer, lock string) (pylock.Lock, error) {
	dir, err := os.MkdirTemp("", "engine-provisioner-lock-*")
	if err != nil {
		return pylock.Lock{}, p.fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if with.uv != "" {
		input, file := []string{lock, "--no-deps"}, filepath.Join(dir, "pylock.toml")
		if lock == "" {
			input = []string{filepath.Join(dir, "requirements.in")}
			if err := os.WriteFile(input[0], []byte(strings.Join(p.pkg.Requirements, "\n")+"\n"), 0o600); err != nil {
				return pylock.Lock{}, p.fail(err)
			}
		}
		args := []string{
			"pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", with.python, "--format", "pylock.toml", "-o", file,
		}
		if _, err := p.shop().Output(ctx, with.uv, slices.Concat(args, p.pkg.ExtraArgs, input)...); err != nil {
			return pylock.Lock{}, p.explain(ctx, "", err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return pylock.Lock{}, p.fail(err)
		}
		return pylock.Read("pylock.toml", string(text)), nil
	}
	input, file := p.pkg.Requirements, filepath.Join(dir, "report.json")
	if lock != "" {
		input = []string{"--no-deps", "-r", lock}
	}
	args := []string{"-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", file}
	if _, err := p.shop().Output(ctx, with.python, slices.Concat(args, p.pkg.ExtraArgs, input)...); err != nil {
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
	installFailed = regexp.MustCompile(`^(ERROR|error|Error)\b|^\s*×`)
	networkFailed = regexp.MustCompile(`(?i)connection|timed out|timeout|temporary failure|network|dns error|name resolution|50[0234] `)
)

// explain says what the installer said of its failure.
func (p pythonPackage) explain(ctx context.Context, log string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var failure *tool.Error
	var already *provisionError
	if errors.As(err, &already) {
		return already
	}
	failed := p.fail(err)
	failed.log = log
	if errors.As(err, &failure) {
		if i := slices.IndexFunc(failure.Lines, installFailed.MatchString); i >= 0 {
			said := strings.Join(failure.Lines[i:min(len(failure.Lines), i+3)], " ")
			failed.err = fmt.Errorf("%s failed: %q", failure.Command, tail.Cut(strings.Join(strings.Fields(said), " ")))
		}
		failed.try = slices.ContainsFunc(failure.Lines, networkFailed.MatchString)
		if log != "" {
			failed.err = tool.BlameDisk(failed.err, filepath.Dir(log), failure.Lines)
		}
	}
	return failed
}

// pythonVersion is a version alone, such as "3.12".
var pythonVersion = regexp.MustCompile(`^3(\.[0-9]{1,2}){0,2}$`)
