package schema

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/invopop/jsonschema"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/test/golden"
	"github.com/llama-orch/engine-provisioner/web"
)

// TestStatusSchemaIsCurrent regenerates the schema of what /status answers, with the comments of the source. Readers must bear
// fields that later versions add.
func TestStatusSchemaIsCurrent(t *testing.T) {
	t.Parallel()
	states := &jsonschema.Schema{Type: "string", Enum: []any{
		provisioner.StateNew, provisioner.StatePreparing, provisioner.StateStarting, provisioner.StateReady,
		provisioner.StateDraining, provisioner.StateStopping, provisioner.StateStopped, provisioner.StateFailed,
	}}
	r := &jsonschema.Reflector{Anonymous: true, AllowAdditionalProperties: true, Mapper: func(of reflect.Type) *jsonschema.Schema {
		if of == reflect.TypeFor[provisioner.State]() {
			return states
		}
		return nil
	}}
	if err := r.AddGoComments("github.com/llama-orch/engine-provisioner", "."); err != nil {
		t.Fatal(err)
	}
	s := r.Reflect(&web.Snapshot{})
	s.Title = "engine-provisioner status of a fleet"
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "web/status.schema.json", string(text)+"\n")
}
