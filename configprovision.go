package provisioner

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cmake"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// Provisioning says where an engine's executable comes from.
type Provisioning struct {
	// Mode is "binary", an executable that is already on the node, "source", one that is built there, "package", one that
	// comes with a Python package, or "container", an image of Docker or Podman. Left out, it is "binary".
	Mode string `json:"mode,omitempty" validate:"omitempty,oneof=binary source package container"`
	// Binary belongs to mode "binary".
	Binary *BinaryConfig `json:"binary,omitempty"`
	// Source belongs to mode "source".
	Source *SourceConfig `json:"source,omitempty"`
	// Package belongs to mode "package".
	Package *PackageConfig `json:"package,omitempty"`
	// Container belongs to mode "container".
	Container *ContainerConfig `json:"container,omitempty"`
}

// BinaryConfig names an executable: one that is on the node, or one to download. At most one of Path, URL and Release is
// set.
type BinaryConfig struct {
	// Path is the executable's path, relative to the file's folder (in Go: to Dir), or a bare name that is looked up in
	// PATH. Left out, it is the engine's usual name.
	Path string `json:"path,omitempty"`
	// URL is where the executable, or a tar.gz or zip file with it, is downloaded from, by https.
	URL string `json:"url,omitempty"`
	// Release is the tag of a release that the engine's project has published, such as "b11434" of llama.cpp. The file for
	// this machine is chosen, with CUDA unless "gpu" is "none", and its checksum is that of the release.
	Release string `json:"release,omitempty"`
	// SHA256 is the checksum of the download in hexadecimal digits. A URL needs it.
	SHA256 string `json:"sha256,omitempty"`
	// Strip is how many leading folders of the names in an archive are left out, 0 to 16. Left out, it is 0.
	Strip int `json:"strip,omitempty" validate:"min=0,max=16"`
}

// SourceConfig says how an engine is built from source: a CMake project in a git repository.
type SourceConfig struct {
	// Repo is the git repository: an https or ssh URL without a password, "host:path" as ssh has it, or a path relative to
	// the file's folder (in Go: to Dir).
	Repo string `json:"repo" validate:"required"`
	// Ref is what to build: a tag, a branch, or a commit in full.
	Ref string `json:"ref" validate:"required"`
	// Submodules fetches those of the repository, too. Left out, it is false.
	Submodules bool `json:"submodules,omitempty"`
	// CMakeFlags are passed to cmake after the provisioner's own (Release, and what the engine needs), one element each.
	CMakeFlags []string `json:"cmake_flags,omitempty"`
	// Targets are what is built. Left out, it is the one named like the engine's executable.
	Targets []string `json:"targets,omitempty"`
	// Generator is "ninja" or "make". Left out, it is ninja where that is installed.
	Generator string `json:"generator,omitempty" validate:"omitempty,oneof=ninja make"`
	// Jobs is how many compilers run at once, 1 to 1024. Left out, it is one for each CPU, and no more than one for each
	// 2 GiB of memory.
	Jobs int `json:"jobs,omitempty" validate:"min=0,max=1024"`
}

// PackageConfig says how an engine is installed as a Python package, into a virtual environment of its own. Exactly one of
// Requirements and Lock is set.
type PackageConfig struct {
	// Requirements are what is installed, one requirement each, such as "vllm==0.32.0". Paths are relative to the file's
	// folder (in Go: to Dir). What they stand for is resolved once, and then by Prepare alone.
	Requirements []string `json:"requirements,omitempty"`
	// Lock is a file that names every package with its version, as "uv pip compile" or pip-compile write it. Nothing else is
	// installed, and checksums in it are checked.
	Lock string `json:"lock,omitempty"`
	// Python is a version, such as "3.12", or the interpreter's name or path. Left out, it is python3.
	Python string `json:"python,omitempty"`
	// Installer is "uv" or "pip". Left out, it is uv where that is installed.
	Installer string `json:"installer,omitempty" validate:"omitempty,oneof=uv pip"`
	// ExtraArgs are passed to the installer, both to resolve and to install, such as "--index-url". Passwords do not belong
	// here: the installers take them from a netrc file, a keyring, or variables.
	ExtraArgs []string `json:"extra_args,omitempty"`
}

// whyNotMode says what a mode is good for, where it does not suit an engine.
var whyNotMode = map[string]string{
	"source":  ", which is not a CMake project",
	"package": ", which is in no Python package",
}

// provisioning checks where an executable comes from.
func (k *checker) provisioning(key string, c Provisioning, engine string, program engine.Program) {
	mode := cmp.Or(c.Mode, "binary")
	suits := modesOf(program)
	if slices.Contains(provisioningModes, mode) && !slices.Contains(suits, mode) {
		k.report(key+".mode", `%q cannot provide %s%s; write %s`, mode, engine, whyNotMode[mode], strictyaml.Or(suits))
		return
	}
	for _, block := range []struct {
		name   string
		there  bool
		needed bool
	}{
		{"binary", c.Binary != nil, false},
		{"source", c.Source != nil, true},
		{"package", c.Package != nil, true},
		{modeContainer, c.Container != nil, false},
	} {
		at := key + "." + block.name
		switch {
		case block.there && c.Mode == "" && block.name != mode:
			k.report(at, "belongs to mode %q; write \"mode: %s\", too", block.name, block.name)
		case block.there && block.name != mode:
			k.report(at, "belongs to mode %q, and the mode is %q; remove one of the two", block.name, mode)
		case !block.there && block.needed && block.name == mode && !k.unreadIn(at):
			k.report(at, "is missing; mode %q needs it", mode)
		}
	}
	if c.Binary != nil {
		k.binary(key+".binary", *c.Binary, program)
	}
	if c.Source != nil {
		k.source(key+".source", *c.Source)
	}
	if c.Package != nil {
		k.pythonPackage(key+".package", *c.Package)
	}
}

func (k *checker) binary(key string, c BinaryConfig, program engine.Program) {
	k.download(key, c, program)
	key += ".path"
	switch path := c.Path; {
	case path == "" && k.written(key):
		k.report(key, "is empty; write the executable's path, or remove the key to look for the usual name in PATH")
	case path != "":
		if wrong := keys.BadExecutable(path); wrong != "" {
			k.report(key, "%s", wrong)
		}
	}
}

var refPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./+@-]*$`)

// source checks the block of a pools file.
func (k *checker) source(key string, c SourceConfig) {
	switch repo := c.Repo; {
	case repo == "":
	case strings.ContainsRune(repo, 0):
		k.report(key+".repo", "holds a NUL character; remove it")
	case strings.HasPrefix(repo, "-") || strings.HasPrefix(repo, "~"):
		k.report(key+".repo", "is %q; write a URL, or a path from %q or %q on", repo, "/", "./")
	default:
		if wrong := badRepo(repo); wrong != "" {
			k.report(key+".repo", "%s", wrong)
		}
	}
	if c.Ref != "" && (!refPattern.MatchString(c.Ref) || strings.Contains(c.Ref, "..") || len(c.Ref) > 200) {
		k.report(key+".ref", "is %q, which is no tag, branch or commit", c.Ref)
	}
	before := ""
	for i, flag := range c.CMakeFlags {
		if wrong := cmake.Check(before, flag); wrong != "" {
			k.report(fmt.Sprintf("%s.cmake_flags[%d]", key, i), "%s", wrong)
		}
		before = flag
	}
	for i, target := range c.Targets {
		if !refPattern.MatchString(target) {
			k.report(fmt.Sprintf("%s.targets[%d]", key, i), "is %q, which is no name of a target", target)
		}
	}
	if c.Jobs == 0 && k.written(key+".jobs") {
		k.report(key+".jobs", "must be from 1 to 1024, is 0; leave the key out for the default")
	}
}

func badRepo(repo string) string {
	if !strings.Contains(repo, "://") {
		return ""
	}
	u, err := url.Parse(repo)
	if err != nil {
		return "is no URL that can be read" // its text may hold a secret
	}
	_, password := u.User.Password()
	switch {
	case password || u.User != nil && u.Scheme == "https":
		return "holds a user or password; remove it, and give git a credential helper instead"
	case u.Scheme == "https", u.Scheme == "ssh", u.Scheme == "file":
		return ""
	}
	return fmt.Sprintf("is a URL of %q; write one of https or ssh, or a path", u.Scheme)
}

// download checks the keys of an executable that is not on the node yet.
func (k *checker) download(key string, c BinaryConfig, program engine.Program) {
	ways := 0
	for _, way := range []string{c.Path, c.URL, c.Release} {
		if way != "" {
			ways++
		}
	}
	switch {
	case ways > 1:
		k.report(key, "says twice where the executable comes from; keep one of path, url and release")
	case c.URL == "" && c.Release == "" && c.SHA256 != "":
		k.report(key+".sha256", "belongs to a download; remove it, or write \"url\" or \"release\"")
	case c.URL == "" && c.Release == "" && c.Strip != 0:
		k.report(key+".strip", "belongs to a download; remove it, or write \"url\" or \"release\"")
	case c.URL != "" && c.SHA256 == "":
		k.report(key+".sha256", "is missing; what comes from a URL must be known by its checksum (sha256sum prints it)")
	}
	if c.SHA256 != "" && !sha256Pattern.MatchString(c.SHA256) {
		k.report(key+".sha256", "is no sha256, which has 64 hexadecimal digits")
	}
	if c.URL != "" {
		switch err := fetch.CheckURL(c.URL); {
		case credentials.MatchString(c.URL):
			k.report(key+".url", "holds a user or password; remove it")
		case err != nil:
			k.report(key+".url", "%v", err)
		}
	}
	if c.Release != "" {
		switch r := program.Release; {
		case r == nil:
			k.report(key+".release", "is not known for this engine; write \"url\" and \"sha256\"")
		case !r.Tag.MatchString(c.Release):
			k.report(key+".release", "is %q, which is no tag of a release of %s with executables; they match %s", c.Release, r.Repo, r.Tag)
		}
	}
}

// installerOwned are arguments that would install elsewhere or something else.
var installerOwned = []string{
	"--target", "--prefix", "--root", "--user", "--system", "--python", "--requirement", "--requirements", "--dry-run", "--report",
	"--output-file", "--format", "--upgrade", "--editable",
}

var shortOwned = regexp.MustCompile(`^-[tproUe]`) // the same in short, whatever follows

func (k *checker) pythonPackage(key string, c PackageConfig) {
	switch {
	case k.unreadIn(key):
	case len(c.Requirements) == 0 && c.Lock == "":
		k.report(key, "says nothing to install; write \"requirements\" or \"lock\"")
	case len(c.Requirements) > 0 && c.Lock != "":
		k.report(key+".lock", "stands beside \"requirements\"; keep one of the two")
	}
	for i, r := range c.Requirements {
		at := fmt.Sprintf("%s.requirements[%d]", key, i)
		switch {
		case strings.TrimSpace(r) == "" || strings.ContainsAny(r, "\x00\n\r"):
			k.report(at, "is no requirement; write one, such as \"vllm==0.32.0\"")
		case strings.HasPrefix(r, "-"):
			k.report(at, "is %q; arguments of the installer belong into \"extra_args\"", r)
		case credentials.MatchString(r):
			k.report(at, "holds a user or password; remove it, and use a netrc file or a keyring")
		}
	}
	for i, arg := range c.ExtraArgs {
		at := fmt.Sprintf("%s.extra_args[%d]", key, i)
		name, _, _ := strings.Cut(arg, "=")
		switch {
		case arg == "" || strings.ContainsRune(arg, 0):
			k.report(at, "is empty or holds a NUL character; remove it")
		case slices.Contains(installerOwned, name), shortOwned.MatchString(arg):
			k.report(at, "is %q, which is decided for you; remove it", arg)
		case credentials.MatchString(arg):
			k.report(at, "holds a user or password; remove it, and use a netrc file, a keyring, or a variable of the installer")
		}
	}
	for _, path := range []struct{ key, value string }{{key + ".lock", c.Lock}, {key + ".python", c.Python}} {
		switch {
		case strings.ContainsRune(path.value, 0):
			k.report(path.key, "holds a NUL character; remove it")
		case strings.HasPrefix(path.value, "~"):
			k.report(path.key, "is %q, and ~ is not expanded; write the whole path", path.value)
		case strings.HasPrefix(path.value, "-"):
			k.report(path.key, "is %q; write a path", path.value)
		}
	}
}

// credentials is the part of a URL that no file should hold.
var credentials = regexp.MustCompile(`https?://[^/@\s]*@|://[^/@\s]*:[^/@\s]*@`)

// modesOf are those that suit the program.
func modesOf(p engine.Program) []string {
	if p.Modes != nil {
		return slices.Clone(p.Modes)
	}
	return slices.Clone(provisioningModes)
}
