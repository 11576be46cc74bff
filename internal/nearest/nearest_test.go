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
