package probe

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/secret"
)

// KeyError says that an API key cannot be used as it is. It never holds the key.
type KeyError struct{ Problem, Fix string }

func (e *KeyError) Error() string { return "api_key: " + e.Problem + "; " + e.Fix }

// maxKey is half of what llama-server reads of a header (CPPHTTPLIB_HEADER_MAX_LENGTH, 8 KiB).
const maxKey = 4 << 10

// CheckKey refuses a key that would not reach the engine as it is, or that no client could send: one with the text at which the engine
// splits what stands in its variable, say. The load would succeed,
// and every request be answered with 401.
func CheckKey(key secret.Text, separator, variable string) error {
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
	case separator != "" && strings.Contains(text, separator):
		problem = fmt.Sprintf("the key holds %q, at which the engine splits %s into several keys, so that none of them is this one", separator, variable)
	}
	if problem == "" {
		return nil
	}
	return &KeyError{problem, `put another key there, such as the output of "openssl rand -hex 32"`}
}

// UnauthorizedError says that the engine refuses a question for want of a key that it knows.
type UnauthorizedError struct {
	path   string
	answer Answer
	keyed  bool // a key was sent
}

func (e *UnauthorizedError) Error() string {
	if e.keyed {
		return fmt.Sprintf("the engine refuses the key of \"api_key\": %s answers %s", e.path, e.answer)
	}
	return fmt.Sprintf("the engine asks for a key, and there is no \"api_key\": %s answers %s", e.path, e.answer)
}

// unauthorized is the error of an answer that is about the key; nil for any other.
func (p *Prober) unauthorized(path string, a Answer) error {
	if a.Status != http.StatusUnauthorized && a.Status != http.StatusForbidden {
		return nil
	}
	return &UnauthorizedError{path, a, p.key.Reveal() != ""}
}
