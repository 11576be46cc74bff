package provisioner

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/llama-orch/engine-provisioner/settings"
)

func TestFlagsInAFile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]settings.Flags{
		`"-c 4096 -ngl 99"`:                         {"-c", "4096", "-ngl", "99"},
		`-c 4096 --jinja`:                           {"-c", "4096", "--jinja"},
		`[-c, 4096, --temp, 0.90, --seed, -1]`:      {"-c", "4096", "--temp", "0.90", "--seed", "-1"},
		`[--flash-attn, on, --x, true, --y, "a b"]`: {"--flash-attn", "on", "--x", "true", "--y", "a b"},
		`[--tensor-split, "1.3,3"]`:                 {"--tensor-split", "1.3,3"},
		`>-
      --alias 'two words' --chat-template-kwargs
      '{"enable_thinking": false}'`: {
			"--alias", "two words", "--chat-template-kwargs", `{"enable_thinking": false}`,
		},
		"|\n      -ot .ffn_.*_exps.=CPU \\\n      --samplers top_k;top_p $HOME `id` \"$(id)\"": {
			"-ot", ".ffn_.*_exps.=CPU", "--samplers", "top_k;top_p", "$HOME", "`id`", "$(id)",
		},
		`[]`: {},
	} {
		file := filepath.Join(t.TempDir(), "pools.yaml")
		pools := "pools:\n  - id: a\n    engine: custom\n    port: 8081\n    custom: {command: [x, \"{host}:{port}\"], health: /}\n    flags: " + text + "\n"
		if err := os.WriteFile(file, []byte(pools), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := LoadConfig(file)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := config.Pools[0].Flags
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
		written, err := json.Marshal(got)
		var again settings.Flags
		if err != nil || json.Unmarshal(written, &again) != nil || !slices.Equal(again, got) {
			t.Errorf("%s: written as %s, read as %q (%v)", text, written, again, err)
		}
	}
}
