package provisioner

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

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
	// GPUDriver says how GPUs are asked for: "nvidia", by the NVIDIA Container Toolkit's runtime, or "cdi". Left out, it is
	// "nvidia" for Docker and "cdi" for Podman.
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

var (
	imagePattern       = regexp.MustCompile(`^([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	tagPattern         = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	imageDigestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	namePattern        = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	userPattern        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)
)

// container checks what is said of a container.
func (k *checker) container(prefix string, c ProvisionConfig, own engine.Image) {
	if c.contained() && c.tied() {
		k.report(prefix+"on_manager_exit", `is "kill", which cannot be done to a container; remove the key`)
	}
	if !c.contained() {
		return
	}
	box := c.Provisioning.Container
	prefix += "provisioning.container."
	if box == nil {
		box = &ContainerConfig{}
	}
	k.image(prefix, *box, own)
	switch {
	case box.Network == "none":
		k.report(prefix+"network", `is "none", with which nobody reaches the engine; leave the key out for a network that no other container is in`)
	case box.Network != "" && !namePattern.MatchString(box.Network):
		k.report(prefix+"network", `must be "bridge", "host" or the name of a network, is %q`, box.Network)
	}
	if box.User != "" && !userPattern.MatchString(box.User) {
		k.report(prefix+"user", `must be a user, or a user and a group such as "2000:0", is %q`, box.User)
	}
	if wrong := checkSize(box.ShmSize); box.ShmSize != 0 && wrong != "" {
		k.report(prefix+"shm_size", "%s", wrong)
	}
	if strings.ContainsRune(box.RuntimeSocket, 0) || strings.Contains(box.RuntimeSocket, "://") && !strings.HasPrefix(box.RuntimeSocket, "unix://") {
		k.report(prefix+"runtime_socket", "must be the path of a socket on this machine, is %q", box.RuntimeSocket)
	}
	for i, v := range box.Volumes {
		if wrong := badVolume(v); wrong != "" {
			k.report(fmt.Sprintf("%svolumes[%d]", prefix, i), "%s", wrong)
		}
	}
	for i, arg := range box.Entrypoint {
		if arg == "" || strings.ContainsRune(arg, 0) {
			k.report(fmt.Sprintf("%sentrypoint[%d]", prefix, i), "is no argument of a command; remove it")
		}
	}
}

func (k *checker) image(prefix string, box ContainerConfig, own engine.Image) {
	switch {
	case box.Image == "" && own.Name == "":
		k.report(prefix+"image", "is missing, and the engine has no image of its own; name one")
	case box.Image != "" && !imagePattern.MatchString(box.Image):
		k.report(prefix+"image", "%s", badImage(box.Image))
	case box.Image != "" && box.Tag == "" && box.Digest == "":
		k.report(prefix+"tag", `is missing; write the image's "tag" or its "digest"`)
	}
	switch {
	case box.Tag != "" && !tagPattern.MatchString(box.Tag):
		k.report(prefix+"tag", "must be letters, digits, \"_\", \".\" and \"-\", at most 128, is %q", box.Tag)
	case box.Tag != "" && box.Digest != "":
		k.report(prefix+"digest", `stands beside a "tag"; remove one of the two`)
	}
	if box.Digest != "" && !imageDigestPattern.MatchString(box.Digest) {
		k.report(prefix+"digest", `must be "sha256:" and 64 digits in lower case, is %q`, box.Digest)
	}
}

// badImage says what to write instead of a reference that has more than the name.
func badImage(reference string) string {
	name, digest, _ := strings.Cut(reference, "@")
	tag := ""
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name, tag = name[:i], name[i+1:]
	}
	switch {
	case imagePattern.MatchString(name) && imageDigestPattern.MatchString(digest): // which counts for more than a tag
		return fmt.Sprintf(`must be a name alone; write "image: %s" and "digest: '%s'"`, name, digest)
	case imagePattern.MatchString(name) && digest == "" && tagPattern.MatchString(tag):
		return fmt.Sprintf(`must be a name alone; write "image: %s" and "tag: '%s'"`, name, tag)
	}
	return fmt.Sprintf(`must be the name of an image without tag and digest, such as "vllm/vllm-openai", is %q`, reference)
}

// badVolume says what is wrong with a volume.
func badVolume(v string) string {
	source, rest, _ := strings.Cut(v, ":")
	target, option, _ := strings.Cut(rest, ":")
	switch {
	case strings.ContainsRune(v, 0):
		return "holds a NUL character; remove it"
	case !strings.HasPrefix(target, "/"):
		return fmt.Sprintf(`must be a path or a volume's name, ":" and a path in the container, such as "/data:/data:ro", is %q`, v)
	case option != "" && option != "ro" && option != "rw":
		return fmt.Sprintf(`ends with %q; only "ro" and "rw" are known`, ":"+option)
	case strings.HasPrefix(source, "~"):
		return fmt.Sprintf("is %q, and ~ is not expanded; write the whole path", v)
	case !strings.HasPrefix(source, "/") && !namePattern.MatchString(source):
		return fmt.Sprintf("begins with %q, which is neither an absolute path nor a volume's name", source)
	}
	return ""
}
