package config

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/hook"
	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/settings"
)

var (
	placeholder = lazyregexp.New(`\{[^{}]*\}`)
	// secretHeader finds headers whose value must not stand in a file.
	secretHeader = lazyregexp.New(`(?i)authorization|cookie|token|secret|password|api-?key`)
)

// Drain checks how a replica is drained.
func (k *Checker) Drain(prefix string, c settings.Drain, of hook.Replica) {
	if c.Timeout != nil {
		k.Duration(prefix+"timeout", *c.Timeout)
	}
	if c.Timeout != nil && *c.Timeout == 0 && len(c.Hooks) > 0 && !k.UnreadIn(prefix+"timeout") {
		k.Report(prefix+"hooks", `never run, since "drain.timeout" is 0s; remove one of the two`)
	}
	for i, h := range c.Hooks {
		key := fmt.Sprintf("%shooks[%d]", prefix, i)
		k.Duration(key+".timeout", h.Timeout)
		switch {
		case k.UnreadIn(key + ".http"), k.UnreadIn(key + ".command"):
		case h.HTTP == nil && len(h.Command) == 0:
			k.Report(key, `says nothing to do; write "http" or "command"`)
		case h.HTTP != nil && h.Command != nil:
			k.Report(key, `has both "http" and "command"; make two hooks of them`)
		}
		if len(h.Command) > 0 && h.Command[0] == "" {
			k.Report(key+".command[0]", "is empty; write the path or the name of a program")
		}
		for j, arg := range h.Command {
			k.Text(fmt.Sprintf("%s.command[%d]", key, j), arg)
		}
		if h.HTTP != nil {
			k.httpHook(key+".http.", *h.HTTP, of)
		}
	}
}

// httpHook checks a request. Its messages leave out what may hold a secret: addresses and values of headers.
func (k *Checker) httpHook(prefix string, h settings.HTTPHook, of hook.Replica) {
	known := []string{"{pool}", "{replica}", "{url}", "{port}"}
	for _, name := range placeholder.FindAllString(h.URL, -1) {
		if !slices.Contains(known, name) {
			k.Report(prefix+"url", "holds the unknown placeholder %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	u, err := url.Parse(of.Address(h.URL))
	switch {
	case h.URL == "": // reported by its field's rule
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		k.Report(prefix+"url", `must be an address such as "http://router:8080/drain/{pool}"`)
	case u.User != nil:
		k.Report(prefix+"url", `holds a user or a password; write headers: {Authorization: {from_file: PATH}} instead`)
	case redact.InURL(h.URL) != "":
		k.Report(prefix+"url", `holds %s; write headers: {Authorization: {from_file: PATH}} instead`, redact.InURL(h.URL))
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		key := keys.Join(prefix+"headers", name)
		value := h.Headers[name]
		wrong := ""
		if value.Secret != nil && !k.UnreadIn(key) {
			wrong = badSecret(*value.Secret)
		}
		switch {
		case !headerText.MatchString(name):
			k.Report(key, "is no name of a header; use letters, digits and -")
		case slices.Contains([]string{"Host", "Content-Length", "Transfer-Encoding", "Connection"}, http.CanonicalHeaderKey(name)):
			k.Report(key, "follows from the request; remove it")
		case wrong != "":
			k.Report(key, "%s", wrong)
		case value.Secret != nil || k.Skipped(key):
		case secretHeader.MatchString(name):
			k.Report(key, "may be a secret, which does not belong in a file; write {from_env: NAME} or {from_file: PATH}")
		case strings.ContainsFunc(value.Value, func(r rune) bool { return r < 0x20 || r == 0x7f }):
			k.Report(key, "holds a control character; remove it")
		}
	}
}
