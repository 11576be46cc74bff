package provisioner

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/settings"
)

// wantMode compares a file's or a folder's permissions.
func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != want {
		t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode().Perm(), want, err)
	}
}

// Those who are let in can read the handoff, and nothing else of the state directory.
func TestHandoffReaders(t *testing.T) {
	t.Parallel()
	group := settings.Group(itoa(os.Getgid()))
	if os.Geteuid() == 0 {
		group = "4321" // root may give a file to any group
	}
	for name, c := range map[string]struct {
		handoff               settings.Handoff
		file, folder, passing fs.FileMode
	}{
		"nobody":     {settings.Handoff{}, 0o600, 0o700, 0o700},
		"own group":  {settings.Handoff{Mode: "0640"}, 0o640, 0o750, 0o710},
		"a group":    {settings.Handoff{Group: group}, 0o640, 0o750, 0o710},
		"every user": {settings.Handoff{Mode: "0644"}, 0o644, 0o755, 0o711},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			cfg.Handoff = c.handoff
			p, _ := ready(t, cfg)
			files := p.run.files
			wantMode(t, files.Handoff(), c.file)
			wantMode(t, files.Handoffs(), c.folder)
			wantMode(t, files.State, c.passing)
			for _, closed := range []string{files.Dir(), files.Logs(), filepath.Join(files.State, state.RequestsName)} {
				wantMode(t, closed, 0o700)
			}
			wantMode(t, files.Record(), 0o600)
			wantMode(t, p.run.rec.Log, 0o600)
			for _, path := range []string{files.Handoff(), files.Handoffs(), files.State} {
				info, err := os.Lstat(path)
				if err != nil {
					t.Fatal(err)
				}
				if gid := itoa(int(info.Sys().(*syscall.Stat_t).Gid)); c.handoff.Group != "" && gid != string(group) {
					t.Errorf("%s is of group %s, want %s", path, gid, group)
				}
			}
			if err := files.Create(); err != nil {
				t.Errorf("the state directory is refused now: %v", err)
			}
			if err := p.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHandoffOfAnUnknownGroup(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Handoff.Group = "no_such_group"
	p, _ := newLaunch(t, cfg)
	wantText(t, p.Start(bounded(t)), `no group "no_such_group" is known on this machine`, `check "handoff"`)
}

func TestHandoffConfig(t *testing.T) {
	t.Parallel()
	pool := "pools: [{id: %, engine: llamacpp, port: 8081, model: {id: /m.gguf}, handoff: {#}}]"
	for text, want := range map[string]settings.Handoff{
		`mode: "0640"`:             {Mode: "0640"},
		`mode: 0640`:               {Mode: "0640"},
		`mode: 644`:                {Mode: "0644"},
		`group: llm`:               {Group: "llm"},
		`group: 1001`:              {Group: "1001"},
		`mode: "0644", group: llm`: {Mode: "0644", Group: "llm"},
	} {
		c, err := ParseConfig([]byte(strings.ReplaceAll(strings.ReplaceAll(pool, "#", text), "%", "a")), "")
		if err != nil || c.Pools[0].Handoff != want {
			t.Errorf("%s: %+v, %v", text, c, err)
			continue
		}
		data, err := json.Marshal(c)
		if again, parseErr := ParseConfig(data, ""); err != nil || parseErr != nil || again.Pools[0].Handoff != want {
			t.Errorf("%s and back: %s, %v, %v", text, data, err, parseErr)
		}
	}
	for text, want := range map[string]string{
		`mode: "0666"`:             `handoff.mode: must be "0600", "0640" (its group may read it) or "0644" (every user may), is "0666"`,
		`mode: rw-r--r--`:          `handoff.mode: must be`,
		`mode: [1]`:                `the mode of a file, such as "0640"`,
		`group: "a b"`:             `the name or number of a group of users`,
		`mode: "0600", group: llm`: `so that the group may not read the file`,
	} {
		_, err := ParseConfig([]byte(strings.ReplaceAll(strings.ReplaceAll(pool, "#", text), "%", "a")), "")
		wantText(t, err, want)
	}
	two := `pools:
  - {id: a, engine: llamacpp, port: 8081, model: {id: /m.gguf}, handoff: {group: llm}}
  - {id: b, engine: llamacpp, port: 8082, model: {id: /m.gguf}}
  - {id: c, engine: llamacpp, port: 8083, model: {id: /m.gguf}, handoff: {group: web}}
`
	_, err := ParseConfig([]byte(two), "")
	wantText(t, err, `pools[2].handoff.group: is "web", and that of pool a is "llm"`)
}
