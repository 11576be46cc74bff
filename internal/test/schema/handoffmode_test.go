package schema

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	jsonschemav6 "github.com/santhosh-tekuri/jsonschema/v6"
	sigsyaml "sigs.k8s.io/yaml"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/settings"
)

// A mode is octal however it is written, and the schema takes what the loader takes.
func TestHandoffMode(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	for written, want := range map[string]settings.FileMode{
		"0640": "0640", "640": "0640", "0o640": "0640", "416": "0640", `"0640"`: "0640", `"640"`: "0640", `"0o640"`: "0640",
		"0600": "0600", "384": "0600", "0644": "0644", "420": "0644",
		`"416"`: "", "0660": "", "0666": "", "777": "", "6400": "", "1": "", "-640": "", `"o640"`: "", "rw": "", "true": "",
	} {
		file := fmt.Sprintf("pools:\n- {id: a, engine: llamacpp, port: 8081, model: {id: m}, handoff: {mode: %s}}\n", written)
		config, err := provisioner.ParseConfig([]byte(file), "pools.yaml")
		if want == "" && (err == nil || !strings.Contains(err.Error(), "handoff.mode")) || want != "" && (err != nil || config.Pools[0].Handoff.Mode != want) {
			t.Errorf("%s: %+v, %v; want %q", written, config, err, want)
		}
		data, err := sigsyaml.YAMLToJSON([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschemav6.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != (want != "") {
			t.Errorf("%s: by the schema: %v, want %q", written, err, want)
		}
	}
}
