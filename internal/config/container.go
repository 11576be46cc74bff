package config

import (
	"fmt"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/settings"
)

// What names of images and what belongs to them look like.
const (
	ImagePattern   = `^([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`
	TagPattern     = `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`
	DigestPattern  = `^sha256:[0-9a-f]{64}$`
	NetworkPattern = `^[A-Za-z0-9][A-Za-z0-9_.-]*$`
	UserPattern    = `^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`
)

var (
	imagePattern       = lazyregexp.New(ImagePattern)
	tagPattern         = lazyregexp.New(TagPattern)
	imageDigestPattern = lazyregexp.New(DigestPattern)
	namePattern        = lazyregexp.New(NetworkPattern)
	userPattern        = lazyregexp.New(UserPattern)
)

// Container checks what is said of a container. own is the engine's image.
func (k *Checker) Container(prefix string, box settings.Container, own engine.Image) {
	k.image(prefix, box.Image, box.Tag, box.Digest, own)
	switch {
	case box.Network == "none":
		k.Report(prefix+"network", `is "none", with which nobody reaches the engine; leave the key out for a network that no other container is in`)
	case box.Network != "" && !namePattern.MatchString(box.Network):
		k.Report(prefix+"network", `must be "bridge", "host" or the name of a network, is %q`, box.Network)
	}
	if box.User != "" && !userPattern.MatchString(box.User) {
		k.Report(prefix+"user", `must be a user, or a user and a group such as "2000:0", is %q`, box.User)
	}
	k.Size(prefix+"shm_size", box.ShmSize)
	if strings.ContainsRune(box.RuntimeSocket, 0) || strings.Contains(box.RuntimeSocket, "://") && !strings.HasPrefix(box.RuntimeSocket, "unix://") {
		k.Report(prefix+"runtime_socket", "must be the path of a socket on this machine, is %q", box.RuntimeSocket)
	}
	for i, v := range box.Volumes {
		k.wrong(fmt.Sprintf("%svolumes[%d]", prefix, i), badVolume(v))
	}
	for i, arg := range box.Entrypoint {
		if arg == "" || strings.ContainsRune(arg, 0) {
			k.Report(fmt.Sprintf("%sentrypoint[%d]", prefix, i), "is no argument of a command; remove it")
		}
	}
}

func (k *Checker) image(prefix, name, tag, digest string, own engine.Image) {
	switch {
	case name == "" && own.Name == "":
		k.Report(prefix+"image", "is missing, and the engine has no image of its own; name one")
	case name != "" && !imagePattern.MatchString(name):
		k.Report(prefix+"image", "%s", badImage(name))
	case name != "" && tag == "" && digest == "":
		k.Report(prefix+"tag", `is missing; write the image's "tag" or its "digest"`)
	}
	switch {
	case tag != "" && !tagPattern.MatchString(tag):
		k.Report(prefix+"tag", "must be letters, digits, \"_\", \".\" and \"-\", at most 128, is %q", tag)
	case tag != "" && digest != "":
		k.Report(prefix+"digest", `stands beside a "tag"; remove one of the two`)
	}
	if digest != "" && !imageDigestPattern.MatchString(digest) {
		k.Report(prefix+"digest", `must be "sha256:" and 64 digits in lower case, is %q`, digest)
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
	case !strings.HasPrefix(source, "/") && !namePattern.MatchString(source):
		return fmt.Sprintf("begins with %q, which is neither an absolute path nor a volume's name", source)
	}
	return ""
}
