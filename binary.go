package provisioner

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

func (o *options) executable(cfg ProvisionConfig, program Program) executable {
	if p := cfg.Provisioning; p.Mode == "source" {
		return sourceBuild{opts: o, cfg: cfg, source: *p.Source, program: program}
	}
	if p := cfg.Provisioning; p.Mode == "package" {
		return pythonPackage{opts: o, cfg: cfg, pkg: *p.Package, program: program}
	}
	if b := cfg.Provisioning.Binary; b != nil && (b.URL != "" || b.Release != "") {
		return downloadedBinary{opts: o, cfg: cfg, binary: *b, program: program}
	}
	return localBinary{cfg, program}
}

// localBinary is an executable that is on this node already.
type localBinary struct {
	cfg     ProvisionConfig
	program Program
}

func (b localBinary) get(context.Context, listener) (string, error) {
	return lookupBinary(b.cfg, b.program)
}

func (b localBinary) find(context.Context) (path, pending string, err error) {
	path, err = lookupBinary(b.cfg, b.program)
	return path, "", err
}

// lookupBinary finds the engine's executable: the configured path, or the engine's usual name in PATH.
func lookupBinary(cfg ProvisionConfig, program Program) (string, error) {
	path, err := findBinary(cfg, program)
	if err != nil {
		return "", &binaryError{err}
	}
	return path, nil
}

func findBinary(cfg ProvisionConfig, program Program) (string, error) {
	name, key := program.Command, "provisioning.binary.path"
	if cfg.Custom != nil {
		key = "custom.command"
	}
	if b := cfg.Provisioning.Binary; b != nil && b.Path != "" {
		name = b.Path
	}
	path := cfg.resolve(name)
	if !strings.ContainsRune(name, filepath.Separator) {
		found, err := exec.LookPath(name)
		if err != nil {
			looked := "looked in " + strings.Join(searched(), ", ")
			if len(searched()) == 0 {
				looked = "PATH is empty"
			}
			return "", fmt.Errorf("no executable %q in PATH (%s); install it, or name it in %q", name, looked, key)
		}
		path = found
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch mode := fileMode(info); {
	case err != nil:
		return "", fmt.Errorf("cannot find the engine's executable: %w; set %q", err, key)
	case !mode.IsRegular():
		return "", fmt.Errorf("the engine's executable %q is a %s; name the executable file", path, kindOf(info))
	case mode.Perm()&0o111 == 0:
		return "", fmt.Errorf("the engine's executable %q is not executable; run chmod +x on it", path)
	case mode.Perm()&0o002 != 0:
		return "", fmt.Errorf("the engine's executable %q can be replaced by any user (mode %#o); run chmod o-w on it", path, mode.Perm())
	case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return "", fmt.Errorf("the engine's executable %q is setuid or setgid; an engine must run as the user who starts it", path)
	}
	return path, nil
}

// searched is the folders of PATH, each once.
func searched() []string {
	var dirs []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func fileMode(info fs.FileInfo) fs.FileMode {
	if info == nil {
		return 0
	}
	return info.Mode()
}
