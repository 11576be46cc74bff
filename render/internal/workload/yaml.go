package workload

import (
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// YAML is a value as YAML, with keys as in its JSON. The library takes its way over JSON, where some characters stand for themselves
// that YAML does not let stand.
func YAML(value any) (string, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range string(data) {
		if r >= 0x7f && r <= 0x9f || r == 0xfeff || r == 0xfffe || r == 0xffff {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	text, err := yaml.JSONToYAML([]byte(b.String()))
	return string(text), err
}
