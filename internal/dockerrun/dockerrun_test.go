package dockerrun

import (
	"slices"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"docker run a":                          "a",
		"/usr/bin/docker run --rm a b":          "--rm a b",
		"docker --context x -H unix:///s run a": "a",
		"docker --context=x container run a":    "a",
		"podman create a":                       "a",
		"nerdctl -n k8s.io run a":               "a",
		"docker compose up":                     "none",
		"docker":                                "none",
		"docker container":                      "none",
		"dockerd run a":                         "none",
		"":                                      "none",
	} {
		rest, ok := Find(strings.Fields(line))
		if got := strings.Join(rest, " "); ok != (want != "none") || ok && got != want {
			t.Errorf("%s: %q, %t", line, got, ok)
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	got, err := Read(strings.Fields("-itd --rm=true -p 1:2 --publish=3:4 -eA=1 -v /a:/b --gpus all --name x image:1 --rm -p 5 --model m"))
	if err != nil {
		t.Fatal(err)
	}
	flags := []Flag{
		{"detach", ""},
		{"env", "A=1"},
		{"gpus", "all"},
		{"interactive", ""},
		{"name", "x"},
		{"publish", "1:2"},
		{"publish", "3:4"},
		{"rm", ""},
		{"tty", ""},
		{"volume", "/a:/b"},
	}
	if !slices.Equal(got.Flags, flags) || got.Image != "image:1" || strings.Join(got.Command, " ") != "--rm -p 5 --model m" {
		t.Errorf("%+v", got)
	}
	for line, want := range map[string]string{
		"":               "without an image",
		"--rm":           "without an image",
		"--gpus":         "needs an argument",
		"--nonsense x y": "unknown flag",
		"-Z image":       "unknown shorthand",
	} {
		if _, err := Read(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}
