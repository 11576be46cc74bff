package provisioner

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/secret"
)

// keyError says that an API key cannot be used as it is. It never holds the key.
type keyError struct{ problem, fix string }

func (e *keyError) Error() string { return "api_key: " + e.problem + "; " + e.fix }

// maxKey is half of what llama-server reads of a header (CPPHTTPLIB_HEADER_MAX_LENGTH, 8 KiB).
const maxKey = 4 << 10

// checkKey refuses a key that would not reach the engine as it is, or that no client could send. The load would succeed,
// and every request be answered with 401.
func checkKey(key secret.Text, spec engine.LaunchSpec) error {
	text := key.Reveal()
	problem := ""
	switch {
	case text == "":
	case strings.TrimSpace(text) != text:
		problem = "the key begins or ends with a blank, which HTTP takes off a header"
	case strings.ContainsFunc(text, func(r rune) bool { return r > 0x7e }):
		problem = "the key holds a character beyond ASCII, which clients cannot send in a header"
	case len(text) > maxKey:
		problem = fmt.Sprintf("the key has %d bytes; servers refuse headers of that size, and %d are the most here", len(text), maxKey)
	case spec.KeySeparator != "" && strings.Contains(text, spec.KeySeparator):
		problem = fmt.Sprintf("the key holds %q, at which the engine splits %s into several keys, so that none of them is this one", spec.KeySeparator, spec.KeyEnv)
	}
	if problem == "" {
		return nil
	}
	return &keyError{problem, `put another key there, such as the output of "openssl rand -hex 32"`}
}

// checkKeys is checkKey of all, before anything is fetched. What is wrong with the flags is told later.
func (p *EngineProvisioner) checkKeys(keys secret.Keys) error {
	cfg := p.cfg
	cfg.Flags, cfg.Env = nil, nil
	spec, _ := launchOf(p.engine, cfg, engine.Host{})
	if len(keys) > 1 && spec.KeySeparator == "" {
		return &keyError{
			fmt.Sprintf("the file %q holds %d keys, one a line, and %s takes one", p.cfg.APIKey.FromFile, len(keys), p.cfg.Engine), "leave one line in it",
		}
	}
	for _, key := range keys {
		if err := checkKey(key, spec); err != nil {
			return err
		}
	}
	return nil
}

// unauthorizedError says that the engine refuses a question for want of a key that it knows.
type unauthorizedError struct {
	path   string
	answer answer
	keyed  bool // a key was sent
}

func (e *unauthorizedError) Error() string {
	if e.keyed {
		return fmt.Sprintf("the engine refuses the key of \"api_key\": %s answers %s", e.path, e.answer)
	}
	return fmt.Sprintf("the engine asks for a key, and there is no \"api_key\": %s answers %s", e.path, e.answer)
}

// unauthorized is the error of an answer that is about the key; nil for any other.
func (p *prober) unauthorized(path string, a answer) error {
	if a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		return nil
	}
	return &unauthorizedError{path, a, p.key.Reveal() != ""}
}
