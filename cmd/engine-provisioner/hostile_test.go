package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// evil is a name that sets a terminal's title, clears it, colours it and turns the text around.
const evil = "evil\x1b]0;title\x07\x1b[2J\u009b31m\u202e"

// commandsOf are all commands below one, with their names from the top.
func commandsOf(cmd *cobra.Command, names ...string) [][]string {
	all := [][]string{names}
	for _, sub := range cmd.Commands() {
		all = append(all, commandsOf(sub, append(append([]string{}, names...), sub.Name())...)...)
	}
	return all
}

// raw is the first thing in a text that does something to a terminal; "" for nothing.
func raw(text string) string {
	for i, r := range text {
		if r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || unicode.Is(unicode.Bidi_Control, r) {
			return fmt.Sprintf("%q in %q", r, text[max(0, i-40):min(len(text), i+40)])
		}
	}
	if !utf8.ValidString(text) {
		return "no UTF-8"
	}
	return ""
}

// TestNothingForeignReachesTheTerminal gives every command names with escape sequences: of files, folders, models, pools, keys,
// values, flags and arguments, and of what an engine says. It speaks of them, and none comes through.
func TestNothingForeignReachesTheTerminal(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Chdir(t.TempDir()) // where "init" writes
	dir := filepath.Join(t.TempDir(), evil)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	quoted, err := json.Marshal(evil) // YAML takes it as it stands
	if err != nil {
		t.Fatal(err)
	}
	pool := func(id, engine, model, more string) string {
		return fmt.Sprintf("state_dir: state\npools: [{id: %s, engine: llamacpp, port: %d, gpu: none, model: {id: %s}, restart: {give_up_after: 1}, provisioning: {binary: {path: %s}}%s}]\n",
			id, enginetest.FreePort(t, 1), model, engine, more)
	}
	dying := enginetest.Install(t, enginetest.Behavior{DieLoading: &enginetest.Death{Code: 1, Stderr: evil + "\n"}})
	write("model.gguf", enginetest.GGUF)
	files := []string{
		write("dies.yaml", pool("a", dying, "model.gguf", "")),
		write("model.yaml", pool("a", dying, string(quoted), "")),
		write("flag.yaml", pool("a", dying, "model.gguf", ", flags: ["+string(quoted)+"]")),
		write("key.yaml", pool("a", dying, "model.gguf", ", "+string(quoted)+": 1")),
		write("id.yaml", pool(string(quoted), dying, "model.gguf", "")),
		write("binary.yaml", pool("a", string(quoted), "model.gguf", "")),
		write("hub.yaml", pool("a", dying, `"hf:`+string(quoted)[1:], "")),
		write("broken.yaml", "pools: [{"+evil+"\n"),
		filepath.Join(dir, evil+".yaml"), // is not there
	}
	root := (&cli{}).rootCommand()
	for _, names := range commandsOf(root) {
		t.Run(strings.Join(append([]string{"engine-provisioner"}, names...), " "), func(t *testing.T) {
			spoke := 0
			try := func(args ...string) {
				t.Helper()
				var out, errs bytes.Buffer
				if names != nil && names[0] == "wait" {
					args = append(args, "--timeout", "10ms")
				}
				run(t.Context(), append(append([]string{}, names...), args...), streams{in: strings.NewReader(evil), out: &out, err: &errs})
				for what, text := range map[string]string{"stdout": out.String(), "stderr": errs.String()} {
					if found := raw(text); found != "" {
						t.Errorf("%q: %s has %s", args, what, found)
					}
					spoke += strings.Count(text, "evil")
				}
			}
			for _, format := range []string{"text", "json"} {
				for _, file := range files {
					try("--config", file, "--output", format)
				}
				try(evil, "--output", format)
				try("--"+evil, "--output", format)
				try("--state-dir", filepath.Join(dir, "state"), "--output", format)
				try("--config", files[0], "--output", format, evil)
			}
			if spoke == 0 {
				t.Error("it says nothing of all that, so this shows nothing")
			}
		})
	}
}
