package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"go.uber.org/goleak"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }

type suite struct{ *testing.M }

func (s suite) Run() int {
	enginetest.Main() // in a container this binary is the fake engine
	if address := os.Getenv(dialEnv); address != "" {
		fmt.Fprintln(os.Stdout, dial(address))
		os.Exit(0)
	}
	if path := os.Getenv(openEnv); path != "" {
		fmt.Fprintln(os.Stdout, open(path))
		os.Exit(0)
	}
	if what := os.Getenv(managerEnv); what != "" {
		if err := manage(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	return s.M.Run()
}

// openEnv makes this test binary say whether it may use a device.
const openEnv = "ENGINE_PROVISIONER_TEST_OPEN"

const opened = "opened"

func open(path string) string {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	_ = f.Close()
	return opened
}

const patience = 2 * time.Minute

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// The image of the tests, which each runtime is given once.
const (
	imageName = "engine-provisioner-test"
	imageTag  = "latest"
)

// eachRuntime runs a test against every runtime that "make test-containers" has started.
func eachRuntime(t *testing.T, test func(t *testing.T, rt testRuntime)) {
	found := false
	for _, name := range []string{"docker", "podman"} {
		socket := os.Getenv("ENGINE_PROVISIONER_" + strings.ToUpper(name))
		if socket == "" {
			continue
		}
		found = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt := testRuntime{name: name, socket: socket, launcher: New()}
			t.Cleanup(func() {
				if err := rt.launcher.Close(); err != nil {
					t.Error(err)
				}
			})
			rt.provideImage(t)
			test(t, rt)
		})
	}
	if !found {
		t.Skip("needs a container runtime: run make test-containers") // as .ci/run does, in a part of its own
	}
}

// testRuntime is a real Docker or Podman.
type testRuntime struct {
	name     string
	socket   string
	launcher *Launcher
}

func (rt testRuntime) api(t testing.TB) *client.Client {
	t.Helper()
	r, err := rt.launcher.runtime(bounded(t), rt.socket)
	if err != nil {
		t.Fatal(err)
	}
	return r.api
}

// importing keeps tests that run at once from importing the image twice.
var importing sync.Map

func (rt testRuntime) provideImage(t testing.TB) {
	t.Helper()
	once, _ := importing.LoadOrStore(rt.socket, sync.OnceValue(func() error {
		read, write := io.Pipe()
		go func() { write.CloseWithError(writeImage(write)) }()
		defer func() { _ = read.Close() }()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		changes := []string{
			`ENTRYPOINT ["/usr/bin/llama-server"]`,
			"ENV LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu/llama",
		}
		if rt.name == "docker" { // Podman's import knows no health check
			changes = append(changes, `HEALTHCHECK --interval=1s CMD ["/usr/bin/llama-server", "--no-such-flag"]`)
		}
		stream, err := rt.api(t).ImageImport(ctx, client.ImageImportSource{Source: read, SourceName: "-"}, imageName+":"+imageTag,
			client.ImageImportOptions{Changes: changes})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, stream)
		return errors.Join(err, stream.Close())
	}))
	if err := once.(func() error)(); err != nil {
		t.Fatalf("cannot import the image: %v", err)
	}
}

// writeImage writes the file system of the unpacked llama-server as an archive.
func writeImage(to io.Writer) error {
	wrapper, err := os.ReadFile(os.Getenv("ENGINE_PROVISIONER_LLAMA_SERVER"))
	if err != nil {
		return err
	}
	m := regexp.MustCompile(`(?m)^exec '(.*?)/usr/lib/`).FindSubmatch(wrapper)
	if m == nil {
		return errors.New("ENGINE_PROVISIONER_LLAMA_SERVER is not what scripts/llama-server.sh makes")
	}
	root := string(m[1])
	w := tar.NewWriter(to)
	for name, target := range map[string]string{"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}); err != nil {
			return err
		}
	}
	for _, name := range []string{"proc", "sys", "dev", "run", "tmp"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o1777}); err != nil {
			return err
		}
	}
	err = filepath.WalkDir(filepath.Join(root, "usr"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "doc" || d.Name() == "gconv") {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link, _ := os.Readlink(path)
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		if header.Name, err = filepath.Rel(root, path); err != nil {
			return err
		}
		if err := w.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	return errors.Join(err, w.Close())
}

// config is a replica of a real llama-server in a container.
func (rt testRuntime) config(t testing.TB) provisioner.ProvisionConfig {
	t.Helper()
	dir := t.TempDir()
	model := filepath.Join(dir, "tiny.gguf")
	if err := ggufgen.WriteFile(model, ggufgen.Params{}); err != nil {
		t.Fatal(err)
	}
	network := ""
	if rt.name == "podman" { // whose version here needs a key for the default: network_test.go
		network = "bridge"
	}
	return provisioner.ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "llamacpp", Port: enginetest.FreePort(t, 1), Model: settings.Model{ID: model}, GPU: engine.GPUNone,
		Flags: []string{"--ctx-size", "256", "--threads", "1"},
		Provisioning: settings.Provisioning{Mode: "container", Container: &settings.Container{
			Image: imageName, Tag: imageTag, Pull: "never", RuntimeSocket: rt.socket, Network: network,
		}},
	}
}

// copyTo reads an answer to its end.
func copyTo(w io.Writer, resp *http.Response) (int64, error) {
	defer resp.Body.Close()
	return io.Copy(w, resp.Body)
}
