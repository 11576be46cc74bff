package provisioner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// A changed secret is a difference, which the record tells without it, and the handoff names no key that the engine does not know.
func TestRotatedKey(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.APIKey = &settings.SecretRef{FromFile: "key"}
	cfg.Env = map[string]settings.EnvValue{"DB": {Secret: &settings.SecretRef{FromFile: "db"}}}
	file := filepath.Join(cfg.Dir, "key")
	write := func(name, text string) {
		t.Helper()
		// As editors and secret managers do: the file is another one then.
		next := filepath.Join(cfg.Dir, name+".new")
		if err := os.WriteFile(next, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(cfg.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	differs := func(want string) {
		t.Helper()
		got, err := differencesOf(bounded(t), cfg)
		if err != nil || report.Names(got) != want {
			t.Errorf("differs by %q (%v), want %q", report.Names(got), err, want)
		}
	}
	write("key", "sesame")
	write("db", "postgres")
	p, j := ready(t, cfg)
	if auth := p.handoff.Auth; auth == nil || auth.FromFile != file {
		t.Errorf("the handoff names %+v, want %q", auth, file)
	}
	differs("")
	if text, err := os.ReadFile(p.run.files.Record()); err != nil || strings.Contains(string(text), "sesame") || strings.Contains(string(text), "postgres") {
		t.Errorf("the record has a secret (%v): %s", err, text)
	}

	named := func() *settings.SecretRef {
		t.Helper()
		p.look()
		h, err := ReadHandoff(p.run.files.Handoff())
		if err != nil {
			t.Fatal(err)
		}
		return h.Auth
	}
	write("key", "open")
	write("db", "mysql")
	differs("api_key (the secret changed), env.DB (the secret changed)")
	if auth := named(); auth != nil {
		t.Errorf("the handoff names %+v, whose key the engine does not know", auth)
	}
	wantNote(t, j, "is not the one that the engine was started with")

	write("key", "sesame")
	if auth := named(); auth == nil || auth.FromFile != file {
		t.Errorf("the handoff names %+v", auth)
	}
	differs("env.DB (the secret changed)")
	if err := os.Remove(filepath.Join(cfg.Dir, "db")); err != nil {
		t.Fatal(err)
	}
	differs("") // nobody can tell, and no engine is replaced for that
}
