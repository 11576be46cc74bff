package provisioner

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// secret is a text that must not be seen. Whatever prints it prints "[redacted]"; reveal is the only way to it. It is
// behind a pointer, because fmt does not call the methods of unexported fields, and would print a string there.
type secret struct{ text *string }

func (secret) Format(w fmt.State, _ rune)   { fmt.Fprint(w, redact.Word) } // whatever the verb: %d passes String by
func (secret) MarshalText() ([]byte, error) { return []byte(redact.Word), nil }

func (s secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// read looks the secret up. The error names where it was looked for, never what was found.
func (r SecretRef) read(cfg ProvisionConfig) (secret, error) {
	if r.FromEnv != "" {
		text := os.Getenv(r.FromEnv)
		if text == "" {
			return secret{}, fmt.Errorf("the environment variable %q is not set; set it before the start", r.FromEnv)
		}
		return newSecret(text, fmt.Sprintf("the environment variable %q", r.FromEnv))
	}
	path := cfg.resolve(r.FromFile)
	// Reading a pipe could take for ever.
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		if err == nil {
			err = fmt.Errorf("%q is a %s", path, access.Kind(info))
		}
		return secret{}, fmt.Errorf("cannot read the secret: %w; name a readable file in \"from_file\"", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return secret{}, fmt.Errorf("cannot read the secret: %w; name a readable file in \"from_file\"", err)
	}
	defer f.Close()
	const limit = 16 << 10
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return secret{}, fmt.Errorf("cannot read the secret: %w", err)
	case len(data) > limit:
		return secret{}, fmt.Errorf("the secret file %q is larger than 16 KiB; it must hold the secret alone", path)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	return newSecret(text, fmt.Sprintf("the secret file %q", path))
}

func newSecret(text, where string) (secret, error) {
	switch {
	case text == "":
		return secret{}, fmt.Errorf("%s is empty; put the secret into it", where)
	case strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return secret{}, fmt.Errorf("%s holds a control character; it must hold the secret alone, on one line", where)
	}
	return secret{&text}, nil
}

// redactor takes secrets out of text that an engine wrote.
type redactor []string

// newRedactor knows each secret as it is and in the forms in which an engine might print it.
func newRedactor(secrets ...secret) redactor {
	var r redactor
	for _, s := range secrets {
		text := s.reveal()
		quoted, _ := json.Marshal(text) // a string always has a form in JSON
		r = append(
			r, text, tail.Clean(text), string(quoted[1:len(quoted)-1]), url.QueryEscape(text), url.PathEscape(text),
			// Without padding they are found in a text with padding, too.
			base64.RawStdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)),
		)
	}
	slices.Sort(r)
	return slices.DeleteFunc(slices.Compact(r), func(s string) bool { return s == "" })
}

// text hides every byte that belongs to a secret, also where two of them overlap or touch.
func (r redactor) text(s string) string {
	secret := make([]bool, len(s))
	found := false
	for _, word := range r {
		for from := 0; ; from++ {
			i := strings.Index(s[from:], word)
			if i < 0 {
				break
			}
			found = true
			from += i
			for j := range len(word) {
				secret[from+j] = true
			}
		}
	}
	if !found {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		switch {
		case !secret[i]:
			b.WriteByte(s[i])
		case i == 0 || !secret[i-1]:
			b.WriteString(redact.Word)
		}
	}
	return b.String()
}

func (r redactor) lines(lines []string) []string {
	if len(r) == 0 {
		return lines
	}
	clean := make([]string, len(lines))
	for i, line := range lines {
		clean[i] = r.text(line)
	}
	return clean
}

// secrets are the looked-up secrets of one replica.
type secrets struct {
	key secret            // the API key; empty when the engine asks for none
	env map[string]secret // by the variable's name
}

func readSecrets(cfg ProvisionConfig) (secrets, error) {
	s := secrets{env: map[string]secret{}}
	var failed []error
	if cfg.APIKey != nil {
		key, err := cfg.APIKey.read(cfg)
		if err != nil {
			failed = append(failed, fmt.Errorf("api_key: %w", err))
		}
		s.key = key
	}
	for name, value := range cfg.Env {
		if value.Secret == nil {
			continue
		}
		v, err := value.Secret.read(cfg)
		if err != nil {
			failed = append(failed, fmt.Errorf("env.%s: %w", name, err))
		}
		s.env[name] = v
	}
	// These are read again when they are needed; what cannot be read shall be known before the start.
	for i, hook := range cfg.Drain.Hooks {
		if hook.HTTP == nil {
			continue
		}
		if _, _, err := hook.HTTP.headers(func(ref SecretRef) (secret, error) { return ref.read(cfg) }); err != nil {
			failed = append(failed, fmt.Errorf("drain.hooks[%d].http.%w", i, err))
		}
	}
	return s, errors.Join(failed...)
}

func (s secrets) redactor() redactor {
	all := []secret{s.key}
	for _, v := range s.env {
		all = append(all, v)
	}
	return newRedactor(all...)
}
