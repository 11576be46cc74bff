package provisioner

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/cmake"
)

// Provisioning says where an engine's executable comes from.
type Provisioning struct {
	// Mode is "binary", an executable that is already on the node, "source", one that is built there, or "container", an
	// image of Docker or Podman. Left out, it is "binary".
	Mode string `json:"mode,omitempty" validate:"omitempty,oneof=binary source container"`
	// Binary belongs to mode "binary".
	Binary *BinaryConfig `json:"binary,omitempty"`
	// Source belongs to mode "source".
	Source *SourceConfig `json:"source,omitempty"`
	// Container belongs to mode "container".
	Container *ContainerConfig `json:"container,omitempty"`
}

// BinaryConfig names an executable that is already on the node.
type BinaryConfig struct {
	// Path is the executable's path, relative to the file's folder (in Go: to Dir), or a bare name that is looked up in
	// PATH. Left out, it is the engine's usual name.
	Path string `json:"path,omitempty"`
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

// provisioning checks where an executable comes from.
func (k *checker) provisioning(key string, c Provisioning) {
	mode := cmp.Or(c.Mode, "binary")
	for _, block := range []struct {
		name   string
		there  bool
		needed bool
	}{{"binary", c.Binary != nil, false}, {"source", c.Source != nil, true}, {modeContainer, c.Container != nil, false}} {
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
		k.binary(key+".binary", *c.Binary)
	}
	if c.Source != nil {
		k.source(key+".source", *c.Source)
	}
}

func (k *checker) binary(key string, c BinaryConfig) {
	key += ".path"
	switch path := c.Path; {
	case path == "" && k.written(key):
		k.report(key, "is empty; write the executable's path, or remove the key to look for the usual name in PATH")
	case path != "":
		if wrong := badExecutable(path); wrong != "" {
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
