package docker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	helper "github.com/docker/docker-credential-helpers/client"
	helping "github.com/docker/docker-credential-helpers/credentials"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/launch"
)

// login is what "docker login" or "podman login" has left for an image.
type login struct {
	auth     registry.AuthConfig
	from     string   // where it was found; "" for nowhere
	looked   []string // the files that were looked for
	problems []error  // why one of them, or a helper, could not say anything
}

// header is the login as the runtime passes it on; "" for none.
func (l login) header() (string, error) {
	if l.from == "" {
		return "", nil
	}
	return authconfig.Encode(l.auth)
}

// explain says of a pull that the registry refuses what it has to do with logins.
func (l login) explain(image string, err error) error {
	refused := func(words string) bool { return strings.Contains(strings.ToLower(err.Error()), words) }
	if !slices.ContainsFunc([]string{"unauthorized", "denied", "authentication required", "no basic auth", "username"}, refused) {
		return err
	}
	err = errors.Join(slices.Concat([]error{err}, l.problems)...)
	if l.from != "" {
		return &launch.Error{
			Cause: engine.CauseDownload, Err: err, Advice: fmt.Sprintf("the registry refuses the login that %q keeps; log in again, or check the image's name", l.from),
		}
	}
	command := "login"
	if named, parsing := reference.ParseNormalizedNamed(image); parsing == nil && reference.Domain(named) != "docker.io" {
		command += " " + reference.Domain(named)
	}
	advice := fmt.Sprintf(`no login was found (looked in %s); run`, strings.Join(l.looked, ", "))
	if len(l.problems) > 0 {
		advice = "what may keep the login could not be read; mend that, or run"
	}
	return &launch.Error{
		Cause: engine.CauseDownload, Err: err,
		Advice: fmt.Sprintf(`the registry has no such image for who is not logged in, and %s "docker %s" or "podman %[2]s" as the user that runs this`,
			advice, command),
	}
}

// logins is one file of Docker's or Podman's. Both write this much of it alike.
type logins struct {
	Auths map[string]struct {
		Auth          string `json:"auth"` // "user:password" in base64
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
	Store   string            `json:"credsStore"`
	Helpers map[string]string `json:"credHelpers"`
}

// helperTime bounds a credential helper, which may ask a service.
const helperTime = 30 * time.Second

// findLogin looks for a login as the runtime's own command would, and then as the other one's: people log in with the
// command at hand. What cannot be read is no obstacle, because most images need no login; it is told when the pull fails.
func findLogin(ctx context.Context, image string, podman bool) login {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return login{problems: []error{err}}
	}
	var l login
	for _, path := range loginFiles(podman) {
		l.looked = append(l.looked, path)
		file, err := readLogins(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var found bool
		if err == nil {
			found, err = l.take(ctx, file, path, named)
		}
		if err != nil {
			l.problems = append(l.problems, err)
		}
		if found {
			break
		}
	}
	return l
}

// take takes the login for an image from a file, or from the helper that the file names.
func (l *login) take(ctx context.Context, file logins, path string, image reference.Named) (found bool, err error) {
	host := reference.Domain(image)
	for _, key := range []string{image.Name(), host} { // Podman's helpers can be for a part of a registry
		for _, server := range serverNames(key) {
			program := file.Helpers[server]
			if program == "" && key == host {
				program = file.Store
			}
			if program == "" {
				continue
			}
			creds, asking := askHelper(ctx, program, server)
			switch {
			case helping.IsErrCredentialsNotFound(asking):
			case asking != nil:
				err = errors.Join(err, asking)
			case creds.Username == "<token>":
				l.auth, l.from = registry.AuthConfig{IdentityToken: creds.Secret, ServerAddress: server}, program
				return true, nil
			default:
				l.auth, l.from = registry.AuthConfig{Username: creds.Username, Password: creds.Secret, ServerAddress: server}, program
				return true, nil
			}
		}
	}
	// Podman's keys can be a part of a registry, such as "quay.io/team"; the longest counts.
	best := ""
	for key := range file.Auths {
		name := serverOf(key)
		if (name == image.Name() || strings.HasPrefix(image.Name(), name+"/")) && (best == "" || len(name) > len(serverOf(best))) {
			best = key
		}
	}
	if best == "" {
		return false, err
	}
	entry := file.Auths[best]
	auth := registry.AuthConfig{IdentityToken: entry.IdentityToken, ServerAddress: best}
	if entry.Auth != "" {
		text, decoding := base64.StdEncoding.DecodeString(entry.Auth)
		name, password, whole := strings.Cut(string(text), ":")
		if decoding != nil || !whole || name == "" {
			return false, errors.Join(err, fmt.Errorf("%q holds no login that could be read for %q", path, best))
		}
		auth.Username, auth.Password = name, strings.TrimRight(password, "\x00")
	}
	if auth.Username == "" && auth.IdentityToken == "" { // what is left where a helper keeps the secret
		return false, err
	}
	l.auth, l.from = auth, path
	return true, err
}

// hubServers are what logins for Docker's own registry are kept under: by Docker, and by Podman.
var hubServers = [...]string{"https://index.docker.io/v1/", "docker.io"}

func serverNames(key string) []string {
	if key == "docker.io" {
		return hubServers[:]
	}
	return []string{key}
}

// serverOf is the name that a key of a file means: of an address the host, else the host and perhaps a part of it.
func serverOf(key string) string {
	name, address := strings.CutPrefix(key, "https://")
	if !address {
		name, address = strings.CutPrefix(key, "http://")
	}
	name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "/"), "/v1"), "/v2")
	if address {
		name, _, _ = strings.Cut(name, "/")
	}
	if host, rest, _ := strings.Cut(name, "/"); host == "index.docker.io" || host == "registry-1.docker.io" {
		return strings.TrimSuffix("docker.io/"+rest, "/")
	}
	return name
}

// loginFiles are the files of a runtime's own command, and then those of the other's.
func loginFiles(podman bool) []string {
	home, err := os.UserHomeDir()
	if err != nil { // a service may have none in its environment
		if me, unknown := user.Current(); unknown == nil {
			home = me.HomeDir
		}
	}
	dir := func(env, fallback string) string { return cmp.Or(os.Getenv(env), filepath.Join(home, fallback)) }
	docker := []string{filepath.Join(dir("DOCKER_CONFIG", ".docker"), "config.json")}
	own := []string{
		filepath.Join("/run/containers", strconv.Itoa(os.Getuid()), "auth.json"),
		filepath.Join(dir("XDG_CONFIG_HOME", ".config"), "containers", "auth.json"),
	}
	if running := os.Getenv("XDG_RUNTIME_DIR"); running != "" {
		own[0] = filepath.Join(running, "containers", "auth.json")
	}
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		own = []string{file}
	}
	if podman {
		return append(own, docker...)
	}
	return append(docker, own...)
}

func readLogins(path string) (file logins, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // it may be a pipe, as of REGISTRY_AUTH_FILE=<(command)
	if err != nil {
		return file, access.Explain(err)
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(helperTime)) // a file has none, and needs none
	const limit = 1 << 20
	if err := json.NewDecoder(io.LimitReader(f, limit)).Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return logins{}, fmt.Errorf("cannot read the logins in %q: %w", path, access.Explain(err))
	}
	return file, nil
}

// askHelper asks a credential helper for what it keeps of a server.
func askHelper(ctx context.Context, program, server string) (*helping.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	name := "docker-credential-" + program
	if strings.ContainsRune(program, filepath.Separator) {
		return nil, fmt.Errorf("%q is no name of a credential helper", program)
	}
	creds, err := helper.Get(func(args ...string) helper.Program { return helperCommand{exec.CommandContext(ctx, name, args...)} }, server)
	if err != nil && !helping.IsErrCredentialsNotFound(err) {
		// What it has printed may be what it was asked for.
		return nil, fmt.Errorf("the credential helper %q, asked for %q: %s", name, server, redact.Text(tail.Clean(cmp.Or(context.Cause(ctx), err).Error())))
	}
	return creds, err
}

// helperCommand is a command that cannot be waited for without end: what it has started may keep its output open.
type helperCommand struct{ *exec.Cmd }

func (c helperCommand) Input(in io.Reader) { c.Stdin = in }

func (c helperCommand) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.WaitDelay = &out, time.Second
	err := c.Run()
	return out.Bytes(), err
}
