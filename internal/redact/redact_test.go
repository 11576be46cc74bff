package redact

import (
	"strings"
	"testing"
)

func TestCommandLineHidesSecrets(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"vllm serve --api-key [redacted] [redacted] --port 80": {"vllm", "serve", "--api-key", "sk-1", "sk-2", "--port", "80"},
		"x --api-key=[redacted] --tokenizer t --max-tokens 4":  {"x", "--api-key=sk-1", "--tokenizer", "t", "--max-tokens", "4"},
		"sh -c HF_TOKEN=[redacted] serve":                      {"sh", "-c", "HF_TOKEN=sk-1 serve"},
		"curl -H Authorization: Bearer [redacted] http://x":    {"curl", "-H", "Authorization: Bearer sk-1", "http://x"},
		"get https://[redacted]@hub/x":                         {"get", "https://user:sk-1@hub/x"},
		"a b c":                                                {"a", "b\n c"},
		"x " + strings.Repeat("y", 238) + "…":                  {"x", strings.Repeat("y", 300)},
	} {
		if got := CommandLine(args); got != want || strings.Contains(got, "sk-") {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}
