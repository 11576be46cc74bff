package secret

import (
	"net/url"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/environ"
)

// InEnvironment are the secrets that an engine may have got unasked from an environment, which is as os.Environ gives it: tokens of
// the hub, and the passwords of proxies.
func InEnvironment(environment []string) []Text {
	var found []Text
	for _, entry := range environment {
		name, value, _ := strings.Cut(entry, "=")
		switch {
		case slices.Contains(environ.HubTokens(), name):
			found = append(found, Of(value))
		case strings.HasSuffix(strings.ToUpper(name), "_PROXY"):
			proxy, err := url.Parse(value)
			if err != nil {
				continue // no program can use it
			}
			if password, set := proxy.User.Password(); set {
				found = append(found, Of(password))
			}
		}
	}
	return found
}
