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

func TestHidden(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"curl -H 'Authorization: Bearer hunter2hunter2'", "API_KEY=hunter2hunter2", "password: hunter2hunter2", `{"token": "hunter2hunter2"}`,
		"postgres://me:hunter2hunter2@db/x", "--x hf_hunter2hunter2hunter2", "sk-hunter2hunter2hunter2",
	} {
		if got := Text(s); strings.Contains(got, "hunter2") || !strings.Contains(got, Word) {
			t.Errorf("%q: %q", s, got)
		}
	}
	for _, s := range []string{"--max-tokens 5", "http://localhost:8080/x", "a plain word", "risk-averse"} {
		if got := Text(s); got != s {
			t.Errorf("%q: %q", s, got)
		}
	}
	for s, want := range map[string]bool{
		"HF_TOKEN": true, "APIKEY": true, "db-password": true, "TOKENIZERS_PARALLELISM": false, "KEYBOARD": false, "LLAMA_ARG_MAX_TOKENS": false,
	} {
		if Name(s) != want {
			t.Errorf("%s: %t", s, !want)
		}
	}
}
