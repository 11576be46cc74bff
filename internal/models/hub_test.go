package models

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/hubtest"
)

func TestHubFolders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"},
		{map[string]string{"HUGGINGFACE_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"},
		{map[string]string{"HF_HOME": "/b"}, "/b/hub"},
		{map[string]string{"HF_HOME": "$BASE/hf", "BASE": "/c"}, "/c/hf/hub"},
		{map[string]string{"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"},
	} {
		f := Finder{Env: func(name string) string { return c.env[name] }}
		if h, err := f.hub(); err != nil || h.cache != c.want {
			t.Errorf("%v: %q (%v), want %q", c.env, h.cache, err, c.want)
		}
	}
}

// The address of a mirror may hold a password.
func TestHubSecretInEndpoint(t *testing.T) {
	t.Parallel()
	hub := hubtest.New()
	defer hub.Close()
	hub.Add("org/tiny", "tiny-Q4_K_M.gguf", []byte("GGUF"))
	env := map[string]string{
		"HF_ENDPOINT": strings.Replace(hub.API.URL, "http://", "http://user:hunter2@", 1),
		"HF_HOME":     t.TempDir(),
	}
	f := Finder{Cache: t.TempDir(), Env: func(name string) string { return env[name] }}
	m, err := f.Find(t.Context(), Request{ID: "hf:org/tiny", Kind: GGUF}, false)
	if err != nil || m.Pending == "" || strings.Contains(m.Pending, "hunter2") {
		t.Errorf("%q (%v)", m.Pending, err)
	}
}

// A full disk may be better next time; where there is no folder to put anything, waiting does not help.
func TestProblem(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]Fault{
		ErrNoCache: Missing, errNoHubCache: Missing, errOffline: Missing,
		&fetch.StatusError{Code: 404}: Missing, &fetch.StatusError{Code: 503}: Download, &fetch.StatusError{Code: 429}: Download,
		&fetch.SpaceError{Dir: "/", Need: 2, Free: 1}: Download,
		&fetch.DigestError{}:                          Corrupt,
	} {
		var failed *Error
		if !errors.As(problem(fmt.Errorf("cannot download x: %w", err)), &failed) || failed.Fault != want || !errors.Is(failed, err) {
			t.Errorf("%v: %+v, want %s", err, failed, want)
		}
	}
}
