package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
)

// binaryError says that the executable is missing or cannot be used.
type binaryError struct{ err error }

func (e *binaryError) Error() string { return e.err.Error() }
func (e *binaryError) Unwrap() error { return e.err }

// executable is where an engine's executable comes from, by one mode of provisioning.
type executable interface {
	// find gives its path where it is on this node, and otherwise says what get would do, for people.
	find(ctx context.Context) (path, pending string, err error)
	// get brings it onto this node.
	get(ctx context.Context, tell listener) (path string, err error)
}

func (o *options) executable(cfg ProvisionConfig, program engine.Program) executable {
	if p := cfg.Provisioning; p.Mode == "source" {
		return sourceBuild{opts: o, cfg: cfg, source: *p.Source, program: program}
	}
	if p := cfg.Provisioning; p.Mode == "package" {
		return pythonPackage{opts: o, cfg: cfg, pkg: *p.Package, program: program}
	}
	if b := cfg.Provisioning.Binary; b != nil && (b.URL != "" || b.Release != "") {
		return downloadedBinary{opts: o, cfg: cfg, binary: *b, program: program}
	}
	return localBinary{cfg, program, o.searchPath()}
}

// localBinary is an executable that is on this node already.
type localBinary struct {
	cfg        ProvisionConfig
	program    engine.Program
	searchPath string // where a bare name is looked up
}

func (b localBinary) get(context.Context, listener) (string, error) {
	return lookupBinary(b.cfg, b.program, b.searchPath)
}

func (b localBinary) find(context.Context) (path, pending string, err error) {
	path, err = lookupBinary(b.cfg, b.program, b.searchPath)
	return path, "", err
}

// lookupBinary finds the engine's executable: the configured path, or the engine's usual name in the folders of searchPath.
func lookupBinary(cfg ProvisionConfig, program engine.Program, searchPath string) (string, error) {
	path, err := findBinary(cfg, program, searchPath)
	if err != nil {
		return "", &binaryError{err}
	}
	return path, nil
}

func findBinary(cfg ProvisionConfig, program engine.Program, searchPath string) (string, error) {
	name, key := program.Command, "provisioning.binary.path"
	if cfg.Custom != nil {
		key = "custom.command"
	}
	if b := cfg.Provisioning.Binary; b != nil && b.Path != "" {
		name = b.Path
	}
	path := cfg.resolve(name)
	if !strings.ContainsRune(name, filepath.Separator) {
		found, err := lookPath(name, searchPath)
		if err != nil {
			return "", notInPath(name, searchPath, key, program)
		}
		path = found
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch mode := fileMode(info); {
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("cannot look at the engine's executable: %w: %s; give that right, or set %q", err, access.Denied(path, "execute"), key)
	case err != nil:
		return "", fmt.Errorf("cannot find the engine's executable: %w; set %q", err, key)
	case !mode.IsRegular():
		return "", fmt.Errorf("the engine's executable %q is a %s; name the executable file", path, access.Kind(info))
	case mode.Perm()&0o111 == 0:
		return "", fmt.Errorf("the engine's executable %q is not executable; run chmod +x on it", path)
	case mode.Perm()&0o002 != 0:
		return "", fmt.Errorf("the engine's executable %q can be replaced by any user (mode %#o); run chmod o-w on it", path, mode.Perm())
	case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return "", fmt.Errorf("the engine's executable %q is setuid or setgid; an engine must run as the user who starts it", path)
	}
	return path, nil
}

// notInPath says how an executable can be had that is not there.
func notInPath(name, searchPath, key string, program engine.Program) error {
	where := "in PATH"
	if searchPath == "" {
		where = "in PATH, which is empty"
	}
	if p, ok := obtainable(program); ok {
		return fmt.Errorf("no executable %q %s; install it, name it in %q, or have it brought: write %q", name, where, key, provisioningLine(p))
	}
	return fmt.Errorf("no executable %q %s; install it, or name it in %q", name, where, key)
}

// lookPath is exec.LookPath for a PATH that need not be this program's.
func lookPath(name, searchPath string) (string, error) {
	if searchPath == os.Getenv("PATH") {
		return exec.LookPath(name)
	}
	for _, dir := range filepath.SplitList(searchPath) {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err == nil && filepath.IsAbs(dir) && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

func fileMode(info fs.FileInfo) fs.FileMode {
	if info == nil {
		return 0
	}
	return info.Mode()
}
