package provisioner

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
	"github.com/llama-orch/engine-provisioner/settings"
)

// launchConfig is a replica of an engine, of which nothing is special.
func launchConfig(e Engine, flags ...string) ProvisionConfig {
	cfg := ProvisionConfig{
		PoolID: "chat", ReplicaID: "r0", Engine: e.Name(), Port: 8081, Model: settings.Model{ID: "local:/models/chat"}, Flags: flags,
	}
	return cfg.WithDefaults()
}

func llamaConfig(flags ...string) ProvisionConfig {
	return ProvisionConfig{Engine: "llamacpp", Port: 8081, Model: settings.Model{ID: "local:/models/m.gguf"}, Flags: flags}
}

func testDialect(name string) *flagline.Dialect {
	o := newOptions(nil)
	return o.dialect(name)
}

func BenchmarkLaunch(b *testing.B) {
	for name, e := range map[string]Engine{"llamacpp": llamacpp.Engine{}, "vllm": vllm.Engine{}, "sglang": sglang.Engine{}} {
		host := map[string]func(testing.TB) engine.Host{"llamacpp": enginetable.LlamaServer, "vllm": enginetable.VLLM, "sglang": enginetable.SGLang}[name](b)
		cfg := launchConfig(e, "--seed", "1")
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := launchOf(e, cfg, host); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestSpecIsRecorded checks that whoever adopts an engine finds in the record all that is asked of it later on.
func TestSpecIsRecorded(t *testing.T) {
	t.Parallel()
	beforeTheStart := []string{"Flags", "Env", "FetchesFromHub", "GGUF"}
	for _, e := range []Engine{llamacpp.Engine{}, vllm.Engine{}, sglang.Engine{}, tgi.Engine{}} {
		spec, err := launchOf(e, launchConfig(e), engine.Host{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		var read engine.LaunchSpec
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(read); err != nil || string(again) != string(text) {
			t.Errorf("%s: read again, it is %s (%v)", e.Name(), again, err)
		}
		before, after := reflect.ValueOf(spec), reflect.ValueOf(read)
		for i := range before.NumField() {
			if before.Field(i).IsZero() {
				continue
			}
			name, lost := before.Type().Field(i).Name, after.Field(i).IsZero()
			if lost != slices.Contains(beforeTheStart, name) {
				t.Errorf("%s: %s is lost: %v", e.Name(), name, lost)
			}
		}
	}
}
