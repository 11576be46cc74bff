package provisioner

import (
	"cmp"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
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

// ContainerConfig says how an engine runs in a container of Docker or Podman. What is left out is the engine's own.
type ContainerConfig struct {
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
func (c ContainerConfig) Reference(own engine.Image) string {
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

// contained reports whether the engine runs in a container.
func (c ProvisionConfig) contained() bool { return c.Provisioning.Mode == modeContainer }

// pullsAlways reports whether a start asks the registry, whatever is there.
func (c ProvisionConfig) pullsAlways() bool {
	return c.contained() && c.Provisioning.Container != nil && c.Provisioning.Container.Pull == "always"
}

// bridged reports whether the engine has a network of its own, so that its port is published.
func (c ProvisionConfig) bridged() bool {
	return c.contained() && (c.Provisioning.Container == nil || c.Provisioning.Container.Network != "host")
}

// inside is the configuration as the engine sees it: one with a network of its own listens on all of its addresses, and
// what is published of it is another matter.
func (c ProvisionConfig) inside() ProvisionConfig {
	if c.bridged() {
		c.Host = "0.0.0.0"
	}
	return c
}

// DrainConfig says what happens between the removal of a ready replica's handoff and its SIGTERM: the hooks run, one
// after the other, and then the requests in flight are waited for. A replica that was never ready is not drained.
type DrainConfig struct {
	// Timeout bounds the whole drain, hooks included. "0s" leaves the drain out (in Go: a pointer to 0). Left out, it is
	// 30 seconds.
	Timeout *Duration `json:"timeout,omitempty" validate:"omitempty,min=0"`
	// Hooks run first, in this order, after those of WithDrainHook.
	Hooks []DrainHook `json:"hooks,omitempty" validate:"max=16,dive"`
}

// DrainHook is something to do before requests in flight are waited for, such as taking the replica out of a router.
// Exactly one of HTTP and Command is set.
type DrainHook struct {
	// HTTP is a request to make. Any answer but a 2xx is a failure; redirects are not followed.
	HTTP *HTTPHook `json:"http,omitempty"`
	// Command is a program with its arguments, run without a shell in the file's folder (in Go: in Dir). It gets the
	// allowlist of the engine's environment and ENGINE_PROVISIONER_POOL, _REPLICA, _URL, _PID and _HANDOFF (the
	// handoff's JSON). Any status but 0 is a failure. Its process group is killed when it has ended or its time is over.
	Command []string `json:"command,omitempty"`
	// Timeout bounds the hook. Left out, it is 10 seconds. The drain's own timeout bounds it, too.
	Timeout Duration `json:"timeout,omitempty" validate:"min=0"`
	// OnFailure is "continue" or "abort". With "continue" a failure is noted and the drain goes on. With "abort" the rest
	// of the drain is left out, the engine is stopped at once, and Stop's error is ErrDrainAborted. Left out, it is
	// "continue".
	OnFailure string `json:"on_failure,omitempty" validate:"omitempty,oneof=continue abort"`
}

// HTTPHook is a request that a drain makes.
type HTTPHook struct {
	// URL is the address. {pool}, {replica}, {url} and {port} stand for those of the replica; {url} is escaped unless the
	// address begins with it.
	URL string `json:"url" validate:"required"`
	// Method is "GET", "POST", "PUT", "PATCH" or "DELETE". Left out, it is "POST".
	Method string `json:"method,omitempty" validate:"omitempty,oneof=GET POST PUT PATCH DELETE"`
	// Body is the request's body, with the placeholders of URL.
	Body string `json:"body,omitempty"`
	// Headers are added to the request: text, or a reference for what is secret.
	Headers map[string]EnvValue `json:"headers,omitempty"`
}

const (
	defaultDrainTimeout     = Duration(30 * time.Second)
	defaultDrainHookTimeout = 10 * time.Second
)

// CustomConfig describes a server that this package does not know: how it is run, and where it is asked. It belongs to
// the engine "custom". Answers are expected over HTTP on the replica's host and port.
type CustomConfig struct {
	// Command is the program and its arguments, run without a shell in the file's folder (in Go: in Dir). The program is
	// a name that is looked up in PATH, or a path with a "/". In the arguments {host}, {port}, {devices} (the UUIDs of its
	// GPUs, with commas between) and {tmpdir} (a folder of this launch alone) are filled in, and {model} where it is a
	// whole element or follows "=": the path of a "local:" or "file:" model, else "model.id" as it is. The "flags" follow.
	Command []string `json:"command" validate:"omitempty,max=1024"`
	// Env are variables for a server that takes its address or its model from there: text with the placeholders of
	// Command, except {tmpdir}, which is in TMPDIR.
	Env map[string]string `json:"env,omitempty"`
	// KeyEnv names the variable through which the server takes the "api_key". Left out, it takes none.
	KeyEnv string `json:"key_env,omitempty"`
	// Health is the path that answers 200 once the server is ready, and 503 or nothing before. Left out, it is "/health".
	Health string `json:"health,omitempty"`
	// Version is where the server says its version. Left out, the version is unknown.
	Version *engine.Field `json:"version,omitempty"`
	// Metrics is the page of Prometheus text that must be there. Left out, there is none.
	Metrics *engine.MetricsContract `json:"metrics,omitempty"`
	// Gauges are series of the metrics page, there from the start on, whose sum is the number of requests in the server.
	// The drain waits until it is 0. Left out, no stop waits for requests.
	Gauges []string `json:"gauges,omitempty"`
	// Counters are series of the metrics page that rise with what the server does, such as tokens. A server that has requests
	// and whose counters stand still is wedged; see LivenessConfig. Left out, that is not noticed.
	Counters []string `json:"counters,omitempty"`
	// Answer is a request that must be answered with a 2xx before the server counts as ready, such as one for one token.
	// {model} in its body is filled in. Left out, that proof is missing.
	Answer *engine.AnswerRequest `json:"answer,omitempty"`
	// Grace is the time between SIGTERM and SIGKILL where "stop.grace" says nothing. Left out, it is 5 seconds.
	Grace Duration `json:"grace,omitempty" validate:"min=0"`
	// Aliases are other spellings of flags, as keys, and what is passed instead: {-p: --parallel} also makes
	// "--parallel=2" of "-p=2".
	Aliases map[string]string `json:"aliases,omitempty"`
}

// DownloadConfig says how slow the download of a model or an executable may be. What came before a limit ended it is kept, and
// the next try goes on with it.
type DownloadConfig struct {
	// MinPerMinute is what each connection must bring within a minute, 64KiB to 1TiB. One that brings less is made anew; the
	// fifth in a row ends the download. Left out, it is 64KiB.
	MinPerMinute Size `json:"min_per_minute,omitempty"`
	// Timeout is for all of one file, at most 24 hours. Left out, it is that.
	Timeout Duration `json:"timeout,omitempty" validate:"min=0"`
}

func (c DownloadConfig) withDefaults() DownloadConfig {
	c.MinPerMinute = cmp.Or(c.MinPerMinute, 64<<10)
	c.Timeout = cmp.Or(c.Timeout, Duration(24*time.Hour))
	return c
}

func (c DownloadConfig) limits() fetch.Limits {
	return fetch.Limits{MinPerMinute: int64(c.MinPerMinute), Timeout: time.Duration(c.Timeout)}
}

// RestartConfig says what a fleet does when an engine ends unasked or cannot be started. An exit that nobody
// asked for is a failure, whatever its code.
//
// Failures before readiness open a breaker; crashes after it are tried again for ever. What trying again cannot help is
// given up at once, unless the replica has been ready with the same settings before.
type RestartConfig struct {
	// Mode is "always" or "never". Left out, it is "always".
	Mode string `json:"mode,omitempty" validate:"omitempty,oneof=always never"`
	// InitialDelay is the time before the first restart; each further one waits twice as long. An engine that had been ready for
	// StableAfter does not wait the first time. Left out, it is 1 second.
	InitialDelay Duration `json:"initial_delay,omitempty"`
	// MaxDelay is the longest wait between restarts. Left out, it is 60 seconds.
	MaxDelay Duration `json:"max_delay,omitempty"`
	// StableAfter is how long an engine must be ready for its earlier failures to be forgotten. Left out, it is 5 minutes.
	StableAfter Duration `json:"stable_after,omitempty"`
	// StartBurst is how many starts in a row may fail before readiness until the breaker opens. Left out, it is 5.
	StartBurst int `json:"start_burst,omitempty" validate:"omitempty,min=1,max=1000"`
	// Cooldown is how long an open breaker waits before it tries one start; it doubles with each that fails. Left out, it
	// is 5 minutes.
	Cooldown Duration `json:"cooldown,omitempty"`
	// CooldownMax is the longest such wait. Left out, it is 30 minutes.
	CooldownMax Duration `json:"cooldown_max,omitempty"`
	// GiveUpAfter is how many starts of an open breaker may fail before the replica is failed for good, until Reset. Left
	// out, it tries for ever.
	GiveUpAfter int `json:"give_up_after,omitempty" validate:"omitempty,min=1,max=1000"`
}

func (c RestartConfig) withDefaults() RestartConfig {
	def := RestartConfig{
		Mode: "always", InitialDelay: Duration(time.Second), MaxDelay: Duration(time.Minute), StableAfter: Duration(5 * time.Minute),
		StartBurst: 5, Cooldown: Duration(5 * time.Minute), CooldownMax: Duration(30 * time.Minute),
	}
	fill := func(d *Duration, with Duration) {
		if *d == 0 {
			*d = with
		}
	}
	if c.Mode == "" {
		c.Mode = def.Mode
	}
	if c.StartBurst == 0 {
		c.StartBurst = def.StartBurst
	}
	fill(&c.InitialDelay, def.InitialDelay)
	fill(&c.MaxDelay, def.MaxDelay)
	fill(&c.StableAfter, def.StableAfter)
	fill(&c.Cooldown, def.Cooldown)
	fill(&c.CooldownMax, def.CooldownMax)
	return c
}
