package provisioner

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
)

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

var (
	placeholderPattern = regexp.MustCompile(`\{[^{}]*\}`)
	headerPattern      = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	// secretHeaderPattern finds headers whose value must not stand in a file.
	secretHeaderPattern = regexp.MustCompile(`(?i)authorization|cookie|token|secret|password|api-?key`)
)

// expand fills in the placeholders of a text.
func (h HTTPHook) expand(text string, c ProvisionConfig, escape bool) string {
	base := probe.URL(port.Loopback(c.WithDefaults().Host), c.Port)
	head := ""
	if rest, begins := strings.CutPrefix(text, "{url}"); begins {
		head, text = base, rest
	}
	if escape {
		base = url.QueryEscape(base)
	}
	return head + strings.NewReplacer(
		"{pool}", c.PoolID, "{replica}", c.ReplicaID, "{url}", base, "{port}", fmt.Sprint(c.Port),
	).Replace(text)
}

// drain checks how one replica is drained.
func (k *checker) drain(prefix string, c ProvisionConfig) {
	prefix += "drain."
	if d := c.Drain.Timeout; d != nil && *d != 0 {
		if wrong := keys.BadDuration(time.Duration(*d)); wrong != "" {
			k.report(prefix+"timeout", "%s", wrong)
		}
	}
	if d := c.Drain.Timeout; d != nil && *d == 0 && len(c.Drain.Hooks) > 0 && !k.unreadIn(prefix+"timeout") {
		k.report(prefix+"hooks", `never run, since "drain.timeout" is 0s; remove one of the two`)
	}
	for i, h := range c.Drain.Hooks {
		key := fmt.Sprintf("%shooks[%d]", prefix, i)
		if d := h.Timeout; d != 0 {
			if wrong := keys.BadDuration(time.Duration(d)); wrong != "" {
				k.report(key+".timeout", "%s", wrong)
			}
		}
		switch {
		case k.unreadIn(key + ".http"), k.unreadIn(key + ".command"):
		case h.HTTP == nil && len(h.Command) == 0:
			k.report(key, `says nothing to do; write "http" or "command"`)
		case h.HTTP != nil && h.Command != nil:
			k.report(key, `has both "http" and "command"; make two hooks of them`)
		}
		if len(h.Command) > 0 && h.Command[0] == "" {
			k.report(key+".command[0]", "is empty; write the path or the name of a program")
		}
		for j, arg := range h.Command {
			if strings.ContainsRune(arg, 0) {
				k.report(fmt.Sprintf("%s.command[%d]", key, j), "holds a NUL character; remove it")
			}
		}
		if h.HTTP != nil {
			k.httpHook(key+".http.", *h.HTTP, c)
		}
	}
}

// httpHook checks a request. Its messages leave out what may hold a secret: addresses and values of headers.
func (k *checker) httpHook(prefix string, h HTTPHook, c ProvisionConfig) {
	known := []string{"{pool}", "{replica}", "{url}", "{port}"}
	for _, name := range placeholderPattern.FindAllString(h.URL, -1) {
		if !slices.Contains(known, name) {
			k.report(prefix+"url", "holds the unknown placeholder %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	u, err := url.Parse(h.expand(h.URL, c, true))
	switch {
	case h.URL == "": // reported by its field's rule
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		k.report(prefix+"url", `must be an address such as "http://router:8080/drain/{pool}"`)
	case u.User != nil:
		k.report(prefix+"url", `holds a user or a password; write headers: {Authorization: {from_file: PATH}} instead`)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		key := keys.Join(prefix+"headers", name)
		value := h.Headers[name]
		wrong := ""
		if value.Secret != nil && !k.unreadIn(key) {
			wrong = value.Secret.wellFormed()
		}
		switch {
		case !headerPattern.MatchString(name):
			k.report(key, "is no name of a header; use letters, digits and -")
		case slices.Contains([]string{"Host", "Content-Length", "Transfer-Encoding", "Connection"}, http.CanonicalHeaderKey(name)):
			k.report(key, "follows from the request; remove it")
		case wrong != "":
			k.report(key, "%s", wrong)
		case value.Secret != nil || k.skipped(key):
		case secretHeaderPattern.MatchString(name):
			k.report(key, "may be a secret, which does not belong in a file; write {from_env: NAME} or {from_file: PATH}")
		case strings.ContainsFunc(value.Value, func(r rune) bool { return r < 0x20 || r == 0x7f }):
			k.report(key, "holds a control character; remove it")
		}
	}
}
