package settings

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Provisioning says where an engine's executable comes from.
type Provisioning struct {
	// Mode is "binary", an executable that is already on the node, "source", one that is built there, "package", one that
	// comes with a Python package, or "container", an image of Docker or Podman. Left out, it is "binary".
	Mode string `json:"mode,omitempty" validate:"omitempty,oneof=binary source package container"`
	// Binary belongs to mode "binary".
	Binary *Binary `json:"binary,omitempty"`
	// Source belongs to mode "source".
	Source *Source `json:"source,omitempty"`
	// Package belongs to mode "package".
	Package *Package `json:"package,omitempty"`
	// Container belongs to mode "container".
	Container *Container `json:"container,omitempty"`
}

// Line returns what provisioner.ProvisionConfig.SuggestedProvisioning has found, as people write it in a file.
func (p Provisioning) Line() string {
	switch {
	case p.Binary != nil:
		return fmt.Sprintf("provisioning: {binary: {release: %s}}", p.Binary.Release)
	case p.Package != nil:
		return fmt.Sprintf("provisioning: {mode: package, package: {requirements: ['%s']}}", p.Package.Requirements[0])
	}
	return fmt.Sprintf("provisioning: {mode: %s}", p.Mode)
}

// Binary names an executable: one that is on the node, or one to download. At most one of Path, URL and Release is
// set.
type Binary struct {
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

// Source says how an engine is built from source: a CMake project in a git repository.
type Source struct {
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

// Package says how an engine is installed as a Python package, into a virtual environment of its own. Exactly one of
// Requirements and Lock is set.
type Package struct {
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

// Container says how an engine runs in a container of Docker or Podman. What is left out is the engine's own.
type Container struct {
	// Image is the image's name, without tag or digest. Left out, it is the one that the engine's authors publish.
	Image string `json:"image,omitempty"`
	// Tag is the image's tag. Left out, it is the engine's default for its own image; any other image needs a tag or a
	// digest.
	Tag string `json:"tag,omitempty"`
	// Digest pins the image, such as "sha256:…". It takes the place of a tag.
	Digest string `json:"digest,omitempty"`
	// Pull says when the image is pulled: "missing", "always" (before each start) or "never". Left out, it is "missing".
	Pull string `json:"pull,omitempty" validate:"omitempty,oneof=missing always never"`
	// RuntimeSocket is the path of the socket of Docker, or of Podman's Docker-compatible service. Left out, it is that of
	// DOCKER_HOST, or the first that is there of Docker's and Podman's usual ones.
	RuntimeSocket string `json:"runtime_socket,omitempty"`
	// Network is "bridge", "host" or the name of a network of the runtime's. With "host" the engine listens on "host" and
	// "port" itself; otherwise it listens inside the container, and these are published. Left out, it is a network of the
	// state directory's own, which keeps other containers from the engine.
	Network string `json:"network,omitempty"`
	// Volumes are mounted into the container, such as "/host/path:/path:ro" or "a-volume:/path". The model is mounted by
	// itself, read-only and under its own path. Left out, it is what the engine keeps caches in.
	Volumes []string `json:"volumes,omitempty"`
	// Entrypoint is the command that the flags are for. Left out, it is the image's own, unless the engine knows better.
	Entrypoint []string `json:"entrypoint,omitempty"`
	// ShmSize is the size of /dev/shm. Left out, it is what the engine needs, or the runtime's default of 64 MiB.
	ShmSize Size `json:"shm_size,omitempty"`
	// IPC is "private" or "host". Left out, it is "private".
	IPC string `json:"ipc,omitempty" validate:"omitempty,oneof=private host"`
	// User is whom the engine runs as inside, such as "2000:0". Left out, it is the image's.
	User string `json:"user,omitempty"`
	// GPUDriver says how GPUs are asked for: "nvidia", by the NVIDIA Container Toolkit's runtime, or "cdi". Left out, GPUs of
	// NVIDIA are asked for by "nvidia" of Docker and by "cdi" of Podman, and those of others by their device files.
	GPUDriver string `json:"gpu_driver,omitempty" validate:"omitempty,oneof=nvidia cdi"`
}

// Reference returns the full name of the image that cfg asks for, such as "vllm/vllm-openai:v0.12.0"; "" when none is known.
func (c Container) Reference(own engine.Image) string {
	name, tag := c.Image, c.Tag
	if name == "" {
		name = own.Name
		if tag == "" {
			tag = own.Tag
		}
	}
	switch {
	case name == "":
		return ""
	case c.Digest != "":
		return name + "@" + c.Digest
	case tag == "":
		return name
	}
	return name + ":" + tag
}
