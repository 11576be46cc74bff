package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/launch"
)

// atHome makes an empty home, in which nobody is logged in, and a folder for programs.
func atHome(t *testing.T) (home, programs string) {
	t.Helper()
	home, programs = t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	for _, name := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(home, "run"))
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	return home, programs
}

func writeFile(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
}

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func TestFindLogin(t *testing.T) {
	home, programs := atHome(t)
	writeFile(t, filepath.Join(programs, "docker-credential-kept"), `#!/bin/sh
read server
case $server in
quiet.example) echo "credentials not found in native keychain"; exit 1 ;;
token.example) printf '{"Username":"<token>","Secret":"T"}' ;;
*) printf '{"Username":"helped","Secret":"%s"}' "$server" ;;
esac
`, 0o700)
	writeFile(t, filepath.Join(programs, "docker-credential-broken"), "#!/bin/sh\nprintf 'no \\033[2Jkeychain'; exit 1\n", 0o700)
	docker := filepath.Join(home, ".docker", "config.json")
	podman := filepath.Join(home, "run", "containers", "auth.json")
	writeFile(t, docker, fmt.Sprintf(`{
		"auths": {
			"https://index.docker.io/v1/": {"auth": %q}, "https://old.example/v1/": {"auth": %q}, "both.example": {"auth": %q},
			"helped.example": {}, "id.example": {"auth": "", "identitytoken": "I"}, "torn.example": {"auth": "!"}, "broken.example": {"auth": %q}
		},
		"credHelpers": {"helped.example": "kept", "token.example": "kept", "quiet.example": "kept", "broken.example": "broken", "path.example": "../x"}
	}`, basic("hub", "p"), basic("old", "a:b"), basic("docker", "p"), basic("plain", "p")), 0o600)
	writeFile(t, podman, fmt.Sprintf(`{"auths": {"quay.example": {"auth": %q}, "quay.example/team": {"auth": %q}, "both.example": {"auth": %q}}}`,
		basic("all", "p"), basic("team", "p"), basic("podman", "p")), 0o600)
	for image, want := range map[string]registry.AuthConfig{
		"vllm/vllm-openai:latest": {Username: "hub", Password: "p"},
		"docker.io/library/x":     {Username: "hub", Password: "p"},
		"old.example/x:1":         {Username: "old", Password: "a:b"},
		"helped.example/x":        {Username: "helped", Password: "helped.example"},
		"token.example/x":         {IdentityToken: "T"},
		"id.example/x":            {IdentityToken: "I"},
		"quay.example/team/x":     {Username: "team", Password: "p"},
		"quay.example/teamwork/x": {Username: "all", Password: "p"},
		"quay.example/other/x@sha256:" + strings.Repeat("0", 64): {Username: "all", Password: "p"},
		"broken.example/x":  {Username: "plain", Password: "p"},
		"quiet.example/x":   {},
		"torn.example/x":    {},
		"path.example/x":    {},
		"unknown.example/x": {},
		"id.example:5000/x": {},
	} {
		got := findLogin(t.Context(), image, false)
		got.auth.ServerAddress = ""
		if got.auth != want || (got.from == "") != (want == registry.AuthConfig{}) {
			t.Errorf("%s: %+v from %q (%v)", image, got.auth, got.from, got.problems)
		}
		torn := strings.HasPrefix(image, "torn") || strings.HasPrefix(image, "path") || strings.HasPrefix(image, "broken")
		if torn != (len(got.problems) > 0) || strings.ContainsRune(fmt.Sprint(got.problems), '\x1b') {
			t.Errorf("%s: problems %q", image, got.problems)
		}
	}
	for of, want := range map[bool]string{false: "docker", true: "podman"} {
		if got := findLogin(t.Context(), "both.example/x", of); got.auth.Username != want {
			t.Errorf("of both: %+v", got)
		}
	}
	writeFile(t, docker, "{", 0o600)
	if got := findLogin(t.Context(), "both.example/x", false); got.auth.Username != "podman" || len(got.problems) != 1 {
		t.Errorf("beside a broken file: %+v", got)
	}
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(home, "none"))
	if got := findLogin(t.Context(), "both.example/x", true); got.from != "" || len(got.looked) != 2 {
		t.Errorf("another file: %+v", got)
	}
}

// A helper that waits for a keychain that nobody unlocks does not keep the start for ever.
func TestHungHelper(t *testing.T) {
	_, programs := atHome(t)
	writeFile(t, filepath.Join(programs, "docker-credential-hung"), "#!/bin/sh\nsleep 1000\n", 0o700)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no more patience"))
	if _, err := askHelper(ctx, "hung", "x.example"); err == nil || !strings.Contains(err.Error(), "no more patience") {
		t.Errorf("%v", err)
	}
}

// A file of logins that is a pipe keeps nobody waiting where nothing is written, and is read where something is.
func TestLoginsFromAPipe(t *testing.T) {
	home, _ := atHome(t)
	pipe := filepath.Join(home, "auth")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", pipe)
	if got := findLogin(t.Context(), "x.example/y", true); got.from != "" || len(got.problems) > 0 {
		t.Errorf("%+v", got)
	}
	w, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := fmt.Fprintf(w, `{"auths": {"x.example": {"auth": %q}}}`, basic("piped", "p")); err != nil {
		t.Fatal(err)
	}
	if got := findLogin(t.Context(), "x.example/y", true); got.auth.Username != "piped" {
		t.Errorf("%+v", got)
	}
}

// A helper that fails after it has printed what it keeps brings it into no error.
func TestHelperThatFailsTellsNoSecret(t *testing.T) {
	_, programs := atHome(t)
	writeFile(t, filepath.Join(programs, "docker-credential-late"), "#!/bin/sh\nread server\necho '{\"Username\":\"jane\",\"Secret\":\"canary-7f\"}'; exit 3\n", 0o700)
	if _, err := askHelper(t.Context(), "late", "x.example"); err == nil || strings.Contains(err.Error(), "canary-7f") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%v", err)
	}
}

func TestPullExplained(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{
		"pull access denied for x, repository does not exist or may require 'docker login'": `run "docker login" or "podman login"`,
		"unauthorized: authentication required":                                             "no login was found (looked in /f)",
		"no space left on device":                                                           "",
	} {
		err := login{looked: []string{"/f"}}.explain("x", errors.New(words))
		known, is := errors.AsType[*launch.Error](err)
		if is != (want != "") || is && (known.Cause != engine.CauseDownload || !strings.Contains(known.Advice, want)) {
			t.Errorf("%s: %v", words, err)
		}
	}
	err := login{problems: []error{errors.New("no such helper")}}.explain("x.example/y", errors.New("no basic auth credentials"))
	for _, want := range []string{"no such helper", "mend that", `"docker login x.example"`} {
		known, _ := errors.AsType[*launch.Error](err)
		if text := known.Error() + known.Advice; !strings.Contains(text, want) {
			t.Errorf("%s, want %q in it", text, want)
		}
	}
}

// TestPrivateImages pulls images that need a login, which each way of keeping one has.
func TestPrivateImages(t *testing.T) {
	home, programs := atHome(t)
	var kept []string
	registries := map[string]*privateRegistry{}
	for name, bearer := range map[string]bool{
		"docker's file": false, "podman's file": true, "helper": false, "identity token": true, "nobody": true, "wrong": false,
	} {
		registries[name] = newPrivateRegistry(t, bearer)
	}
	for server, creds := range map[string]map[string]string{
		registries["helper"].host:         {"Username": "jane", "Secret": registries["helper"].password},
		registries["identity token"].host: {"Username": "<token>", "Secret": identityToken},
	} {
		text, err := json.Marshal(creds)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, fmt.Sprintf("%s) echo '%s' ;;\n", server, text))
	}
	writeFile(t, filepath.Join(programs, "docker-credential-test"), "#!/bin/sh\nread server\ncase $server in\n"+strings.Join(kept, "")+"esac\n", 0o700)
	writeFile(t, filepath.Join(home, ".docker", "config.json"), fmt.Sprintf(`{"auths": {%q: {"auth": %q}, %q: {"auth": %q}}, "credHelpers": {%q: "test", %q: "test"}}`,
		registries["docker's file"].host, registries["docker's file"].auth(), registries["wrong"].host, basic("jane", "old"),
		registries["helper"].host, registries["identity token"].host), 0o600)
	writeFile(t, filepath.Join(home, "run", "containers", "auth.json"), fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`,
		registries["podman's file"].host+"/team", registries["podman's file"].auth()), 0o600)
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		for name, reg := range registries {
			cfg := rt.config(t)
			c := *cfg.Provisioning.Container
			c.Image, c.Tag, c.Pull = strings.TrimSuffix(reg.image(), ":1"), "1", "always"
			cfg.Provisioning.Container = &c
			p, _ := rt.launch(t, cfg)
			err := p.Start(bounded(t)) // the image has no engine in it
			text := fmt.Sprint(err)
			switch name {
			case "nobody":
				if !strings.Contains(text, `run "docker login `+reg.host+`"`) {
					t.Errorf("%s: %v", name, err)
				}
			case "wrong":
				if !strings.Contains(text, "the registry refuses the login that") {
					t.Errorf("%s: %v", name, err)
				}
			default:
				if strings.Contains(text, "cannot pull") || !strings.Contains(text, "cannot run") {
					t.Errorf("%s: %v", name, err)
				}
			}
			if strings.Contains(text, reg.password) {
				t.Errorf("%s: the error holds the password: %v", name, err)
			}
			if _, err := rt.api(t).ImageRemove(bounded(t), reg.image(), client.ImageRemoveOptions{}); err == nil != (name != "nobody" && name != "wrong") {
				t.Errorf("%s: the image was there: %t", name, err == nil)
			}
		}
	})
}
