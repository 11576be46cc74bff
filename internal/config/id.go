package config

import (
	"fmt"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/settings"
)

// What texts in a file look like.
const (
	IDPattern     = `^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`
	HeaderPattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
)

var (
	notInID    = lazyregexp.New(`[^a-z0-9_]+`)
	idText     = lazyregexp.New(IDPattern)
	headerText = lazyregexp.New(HeaderPattern)
	sha256Text = lazyregexp.New(`^[0-9A-Fa-f]{64}$`)
)

// IsID reports whether a pool or a replica can have the name.
func IsID(name string) bool { return idText.MatchString(name) }

// BadID tells what is wrong with a name, or "".
func BadID(id string) string {
	switch {
	case IsID(id):
		return ""
	case len(id) > 63:
		return fmt.Sprintf("is %d characters long, at most 63 are possible", len(id))
	}
	message := fmt.Sprintf(`is %q; use lower-case letters, digits, "-" and "_", with a letter or digit at both ends`, id)
	like := strings.Trim(notInID.ReplaceAllString(strings.ToLower(id), "-"), "-_")
	if IsID(like) {
		message += fmt.Sprintf(", such as %q", like)
	}
	return message
}

// badSecret tells what is wrong with a reference, or "".
func badSecret(r settings.SecretRef) string {
	switch {
	case r.FromEnv == "" && r.FromFile == "":
		return "says nowhere to find the secret; set from_env or from_file"
	case r.FromEnv != "" && r.FromFile != "":
		return "names two places for one secret; keep from_env or from_file"
	case r.FromEnv != "" && !keys.IsVariable(r.FromEnv):
		// The text is left out: it may be the secret itself.
		return "from_env must be the name of a variable (letters, digits and _), not its value"
	case strings.ContainsRune(r.FromFile, 0):
		return "from_file holds a NUL character; remove it"
	}
	return ""
}
