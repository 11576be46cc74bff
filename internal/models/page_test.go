package models

import (
	"strings"
	"testing"
)

func TestOfPage(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://example.com/a/b":                   "",
		"chat.gguf":                                 "",
		"hf:o/r":                                    "",
		"https://huggingface.co/o/r":                "hf:o/r",
		"hf.co/o/r:Q4_K_M":                          "hf:o/r:Q4_K_M",
		"huggingface.co/o/r/":                       "hf:o/r",
		"https://hf.co/o/r/tree/main":               "hf:o/r",
		"https://hf.co/o/r/tree/refs%2Fpr%2F1":      "hf:o/r@refs%2Fpr%2F1",
		"https://hf.co/o/r/blob/v1/a/b%20c.gguf#L1": "hf:o/r@v1/a/b c.gguf",
		"http://www.huggingface.co/o/r/resolve/main/f.gguf?download=true": "hf:o/r/f.gguf",
	} {
		got, err := OfPage(address)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
		if want != "" {
			kind := GGUF
			if !strings.Contains(want, ".gguf") && !strings.Contains(want, ":Q4") {
				kind = Folder
			}
			if _, err := (Request{ID: got, Kind: kind}).Ref(); err != nil && !strings.Contains(want, "%2F") {
				t.Errorf("%s: %v", got, err)
			}
		}
	}
	for _, address := range []string{
		"https://hf.co/", "https://hf.co/o", "https://hf.co/datasets/o/r", "https://hf.co/o/r/tree", "https://hf.co/o/r/settings/x",
		"https://hf.co/../../etc/passwd", "https://hf.co/o/r/blob/main/%zz",
	} {
		if id, err := OfPage(address); err == nil {
			t.Errorf("%s: %q", address, id)
		}
	}
}
