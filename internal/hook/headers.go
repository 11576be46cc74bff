package hook

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Headers are those of a hook's request, with the secrets that read finds, and what takes the secrets among them out of a text.
func Headers(of map[string]settings.EnvValue, read func(settings.SecretRef) (secret.Text, error)) (http.Header, secret.Redactor, error) {
	header := http.Header{}
	var hidden []secret.Text
	for name, value := range of {
		text := value.Value
		if value.Secret != nil {
			s, err := read(*value.Secret)
			if err != nil {
				return nil, secret.Redactor{}, fmt.Errorf("headers.%s: %w", name, err)
			}
			hidden = append(hidden, s)
			text = s.Reveal()
			// The scheme ("Bearer …") is no secret, and what comes after it is one by itself.
			if _, token, found := strings.Cut(text, " "); found && token != "" {
				hidden = append(hidden, secret.Of(token))
			}
		}
		header.Set(name, text)
	}
	return header, secret.NewRedactor(hidden...), nil
}
