package provisioner

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/settings"
)

// pythonConfig is a custom replica that is the Python program, with the address to listen on as its arguments.
func pythonConfig(t testing.TB, program string) ProvisionConfig {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		skip(t, "needs python3")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "server.py")
	if err := os.WriteFile(path, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	return ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "custom", Port: enginetest.FreePort(t, 1), GPU: engine.GPUNone,
		Custom: &settings.Custom{Command: []string{python, path, "{host}", "{port}"}, Health: "/health"},
	}
}

// mapper is a server that maps the file of a request's path: read-only for GET, writable for POST.
const mapper = `
import http.server, mmap, os, sys
kept = []
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, mode, access):
        if self.path != "/health":
            with open(self.path, mode) as f:
                kept.append(mmap.mmap(f.fileno(), 0, access=access))
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def do_GET(self): self.answer("rb", mmap.ACCESS_READ)
    def do_POST(self): self.answer("r+b", mmap.ACCESS_WRITE)
    def log_message(self, *args): pass
http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
`

// What an engine has mapped is a user's file until everything says otherwise: an adapter that is loaded at run time is as
// young as the launch, and nobody else has it open.
func TestUsersFilesInShmStay(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("/dev/shm", "engine-provisioner-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	model, beside := filepath.Join(folder, "model"), func(what string) string { return folder + "-" + what }
	byLink := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(beside("linked"), byLink); err != nil {
		t.Fatal(err)
	}
	adopt := func(t *testing.T, p *EngineProvisioner) *EngineProvisioner {
		t.Helper()
		p.Release()
		t.Cleanup(func() { _, _ = p.run.host().Leader.Child().Wait() })
		attached, err := Attach(p.cfg.StateDir, p.cfg.ID())
		if err != nil {
			t.Fatal(err)
		}
		return attached
	}
	for name, test := range map[string]struct {
		path     string
		writable bool
		change   func(*ProvisionConfig)
		kill     bool
		adopted  bool
		gone     bool
	}{
		"an adapter in a folder":   {path: filepath.Join(folder, "adapter.safetensors")},
		"an adapter":               {path: beside("adapter.safetensors")},
		"written to, in a folder":  {path: filepath.Join(folder, "table"), writable: true},
		"the model's folder":       {path: filepath.Join(model, "weights"), writable: true, change: func(c *ProvisionConfig) { c.Model.ID = "local:" + model }},
		"named in flags":           {path: beside("flag"), writable: true, change: func(c *ProvisionConfig) { c.Flags = []string{"--table=" + beside("flag") + ":1"} }},
		"named by a link":          {path: beside("linked"), writable: true, change: func(c *ProvisionConfig) { c.Flags = []string{byLink} }},
		"named in env":             {path: beside("env"), writable: true, change: func(c *ProvisionConfig) { c.Env = map[string]settings.EnvValue{"TABLE": {Value: beside("env")}} }},
		"named in the command":     {path: beside("command"), writable: true, change: func(c *ProvisionConfig) { c.Custom.Command = append(c.Custom.Command, beside("command")) }},
		"named in custom.env":      {path: beside("custom"), writable: true, change: func(c *ProvisionConfig) { c.Custom.Env = map[string]string{"TABLE": beside("custom")} }},
		"named, of an adopted one": {path: beside("adopted"), writable: true, adopted: true, change: func(c *ProvisionConfig) { c.Env = map[string]settings.EnvValue{"TABLE": {Value: beside("adopted")}} }},
		"named, and it is killed":  {path: beside("killed"), writable: true, kill: true, change: func(c *ProvisionConfig) { c.Flags = []string{beside("killed")} }},
		"a leftover":               {path: beside("left"), writable: true, gone: true},
		"a leftover of an adopted": {path: beside("left-adopted"), writable: true, adopted: true, gone: true},
		"a leftover of one killed": {path: beside("left-killed"), writable: true, kill: true, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := pythonConfig(t, mapper)
			if err := os.MkdirAll(model, 0o700); err != nil {
				t.Fatal(err)
			}
			if test.change != nil {
				test.change(&cfg)
			}
			p, _ := ready(t, cfg)
			url := p.handoff.URL
			if err := os.WriteFile(test.path, make([]byte, 4096), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(test.path) })
			method := http.MethodGet
			if test.writable {
				method = http.MethodPost
			}
			req, err := http.NewRequestWithContext(bounded(t), method, url+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
			if test.adopted {
				p = adopt(t, p)
			}
			if test.kill {
				if _, err := p.run.inst.Observe(); err != nil { // what is killed cannot be asked
					t.Fatal(err)
				}
				if err := syscall.Kill(p.Status().PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				awaitDone(t, p)
			} else if err := p.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(test.path); (err != nil) != test.gone {
				t.Errorf("removed: %v", err != nil)
			}
		})
	}
}
