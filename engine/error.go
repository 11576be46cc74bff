package engine

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a request.
type Problem struct {
	// Key is the configuration key that it is about, such as "flags[0]", "env.NAME" or "api_key". It is never "": the user is
	// shown the line where it stands.
	Key string
	// Message is what is wrong, and what to write instead. It never holds a value that may be a secret.
	Message string
}

// ConfigError is everything that is wrong with a request, and what an engine returns for one. It is no error of the host: that
// an executable or a file is missing, others find.
type ConfigError struct{ Problems []Problem }

// Error lists all problems, one a line.
func (e *ConfigError) Error() string {
	var lines []string
	if len(e.Problems) > 1 {
		lines = append(lines, fmt.Sprintf("%d problems in the configuration:", len(e.Problems)))
	}
	for _, p := range e.Problems {
		lines = append(lines, p.Key+": "+p.Message)
	}
	return strings.Join(lines, "\n")
}
