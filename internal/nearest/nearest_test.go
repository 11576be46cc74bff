package nearest

import "testing"

func TestOf(t *testing.T) {
	t.Parallel()
	known := []string{"--parallel", "--metrics", "--port", "--no-mmap", "port", "pools", "-c"}
	for word, want := range map[string]string{
		"--paralel":     "--parallel",
		"--parrallel":   "--parallel",
		"--metrcis":     "--metrics",
		"--metric":      "--metrics",
		"prot":          "port",
		"--port":        "--port",
		"--met":         "--metrics",
		"--p":           "",
		"--something":   "",
		"":              "",
		"-x":            "",
		"--no-such-one": "",
	} {
		if got := Of(word, known); got != want {
			t.Errorf("Of(%q) = %q, want %q", word, got, want)
		}
	}
	if got := Of("x", nil); got != "" {
		t.Errorf("Of with no known word = %q, want none", got)
	}
}

func TestOfKeys(t *testing.T) {
	t.Parallel()
	known := []string{"port", "pools", "host", "api_key", "gpu", "id"}
	for word, want := range map[string]string{
		"prot": "port", "Port": "port", "PORT": "port", "api-key": "api_key", "apikey": "api_key", "pool": "pools",
		"gpus": "gpu", "ID": "id", "x": "", "quantization": "", "": "", "hots": "host",
	} {
		if got := Of(word, known); got != want {
			t.Errorf("%q is near %q, want %q", word, got, want)
		}
	}
}
