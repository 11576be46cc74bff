// Package schema makes the schemas that are committed of the types that they describe, and holds that of a pools file against the
// loader. It is a module of its own: what makes and reads schemas is needed by nothing else.
package schema

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	jsonschemav6 "github.com/santhosh-tekuri/jsonschema/v6"
	sigsyaml "sigs.k8s.io/yaml"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/test/golden"
	"github.com/llama-orch/engine-provisioner/internal/values"
	"github.com/llama-orch/engine-provisioner/settings"
)

// TestMain goes to the root, from where the files are named.
func TestMain(m *testing.M) {
	if err := os.Chdir("../../.."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestConfigSchemaIsCurrent regenerates the committed schema. It happens in a test and not at run time since the
// descriptions come from the comments in the source.
func TestConfigSchemaIsCurrent(t *testing.T) {
	t.Parallel()
	golden.Check(t, "config.schema.json", generateSchema(t))
}

// schemaTypes are the blocks of a pools file.
func schemaTypes() []any {
	return []any{
		provisioner.Config{},
		provisioner.Pool{},
		settings.Model{},
		settings.Provisioning{},
		settings.Binary{},
		settings.Container{},
		settings.Source{},
		settings.Package{},
		settings.Ready{},
		settings.Restart{},
		settings.Liveness{},
		settings.Stop{},
		settings.Download{},
		settings.Logs{},
		settings.Handoff{},
		settings.SecretRef{},
		settings.Drain{},
		settings.DrainHook{},
		settings.HTTPHook{},
		settings.Custom{},
		engine.Field{},
		engine.MetricsContract{},
		engine.AnswerRequest{},
	}
}

// schemaName is the name of a block in the schema: those of the larger ones end in "Config".
func schemaName(of reflect.Type) string {
	name := of.Name()
	if strings.HasSuffix(of.PkgPath(), "/settings") && !slices.Contains([]string{"Provisioning", "SecretRef", "DrainHook", "HTTPHook"}, name) {
		return name + "Config"
	}
	return name
}

func generateSchema(t *testing.T) string {
	t.Helper()
	r := &jsonschema.Reflector{Anonymous: true, Mapper: unionSchema, Namer: schemaName}
	if err := r.AddGoComments("github.com/llama-orch/engine-provisioner", "."); err != nil {
		t.Fatal(err)
	}
	s := r.Reflect(&provisioner.Config{})
	s.Title = "engine-provisioner pools file"
	types := map[string]reflect.Type{}
	for _, of := range schemaTypes() {
		types[schemaName(reflect.TypeOf(of))] = reflect.TypeOf(of)
	}
	for name, def := range s.Definitions {
		def.Description = oneLine(def.Description)
		for _, f := range reflect.VisibleFields(types[name]) {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if property, ok := def.Properties.Get(key); ok && key != "" {
				property.Description = oneLine(strings.Replace(property.Description, f.Name, key, 1))
				applyRules(t, property, f.Tag.Get("validate"))
				if f.Type.Kind() == reflect.String && property.Type == "string" && property.Enum == nil && property.Pattern == "" {
					property.MinLength = ptr(1) // an empty text is no value
				}
			}
		}
	}
	pool := s.Definitions["Pool"].Properties
	env, _ := pool.Get("env")
	env.PropertyNames = &jsonschema.Schema{
		Pattern: keys.VariablePattern,
		Not:     &jsonschema.Schema{Enum: anys(keys.OwnedVariables())},
	}
	devices, _ := pool.Get("devices")
	devices.MinItems = ptr(1)
	devices.UniqueItems = true
	replicas, _ := pool.Get("replicas")
	replicas.Minimum = "1"
	keep, _ := s.Definitions["LogsConfig"].Properties.Get("keep")
	keep.Minimum = "1"
	hook := s.Definitions["DrainHook"]
	hook.OneOf = []*jsonschema.Schema{{Required: []string{"http"}}, {Required: []string{"command"}}}
	command, _ := hook.Properties.Get("command")
	command.MinItems = ptr(1)
	command.PrefixItems = []*jsonschema.Schema{{Type: "string", MinLength: ptr(1)}}
	command, _ = s.Definitions["CustomConfig"].Properties.Get("command")
	command.MinItems = ptr(1)
	command.PrefixItems = []*jsonschema.Schema{{Type: "string", MinLength: ptr(1)}}
	network, _ := s.Definitions["ContainerConfig"].Properties.Get("network")
	network.Not = &jsonschema.Schema{Const: "none"}
	for key, pattern := range map[string]string{
		"image": config.ImagePattern, "tag": config.TagPattern, "digest": config.DigestPattern,
		"network": config.NetworkPattern, "user": config.UserPattern,
	} {
		property, _ := s.Definitions["ContainerConfig"].Properties.Get(key)
		property.Pattern = pattern
	}
	ref, _ := s.Definitions["SourceConfig"].Properties.Get("ref")
	ref.Pattern = config.RefPattern
	targets, _ := s.Definitions["SourceConfig"].Properties.Get("targets")
	targets.Items.Pattern = config.RefPattern
	jobs, _ := s.Definitions["SourceConfig"].Properties.Get("jobs")
	jobs.Minimum = "1"
	keyEnv, _ := s.Definitions["CustomConfig"].Properties.Get("key_env")
	keyEnv.Pattern = keys.VariablePattern
	headers, _ := s.Definitions["HTTPHook"].Properties.Get("headers")
	headers.PropertyNames = &jsonschema.Schema{Pattern: config.HeaderPattern}
	secret := s.Definitions["SecretRef"]
	secret.OneOf = []*jsonschema.Schema{{Required: []string{"from_env"}}, {Required: []string{"from_file"}}}
	fromEnv, _ := secret.Properties.Get("from_env")
	fromEnv.Pattern = keys.VariablePattern
	fromFile, _ := secret.Properties.Get("from_file")
	fromFile.MinLength = ptr(1)

	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// unionSchema describes the types that are not written in a file as they stand in Go.
func unionSchema(of reflect.Type) *jsonschema.Schema {
	switch of {
	case reflect.TypeFor[settings.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: values.DurationPattern, Examples: []any{"90s", "5m"}}
	case reflect.TypeFor[settings.Size]():
		return &jsonschema.Schema{Type: "string", Pattern: values.SizePattern, Examples: []any{"64MiB", "1GiB"}}
	case reflect.TypeFor[settings.FileMode]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Type: "string", Pattern: "^(0o?)?6(00|40|44)$", Examples: []any{"0640", "0644"}},
			{Type: "integer", Enum: []any{600, 640, 644, 0o600, 0o640, 0o644}}, // what 0640 is depends on the version of YAML
		}}
	case reflect.TypeFor[settings.Expose]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "boolean"}, {Type: "string", Const: string(settings.ExposeOpen)}}}
	case reflect.TypeFor[settings.Group]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Type: "string", Pattern: values.GroupPattern}, {Type: "integer", Minimum: "0"},
		}}
	case reflect.TypeFor[settings.Device]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Type: "integer", Minimum: "0", Maximum: "9999"}, {Type: "string", Pattern: values.DevicePattern},
		}}
	case reflect.TypeFor[settings.Devices]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Type: "string", Const: values.AutoDevice}, {Const: []string{values.AutoDevice}}, {Type: "array", Items: unionSchema(reflect.TypeFor[settings.Device]())},
		}}
	case reflect.TypeFor[settings.Flags]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Type: "string", Examples: []any{"--ctx-size 4096 --parallel 2"}},
			{Type: "array", Items: &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}},
		}}
	case reflect.TypeFor[settings.EnvValue]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, {Ref: "#/$defs/SecretRef"}}}
	}
	return nil
}

// applyRules says in the schema what a validate tag says to the validator.
func applyRules(t *testing.T, s *jsonschema.Schema, tag string) {
	t.Helper()
	for rule := range strings.SplitSeq(tag, ",") {
		name, value, _ := strings.Cut(rule, "=")
		switch name {
		case "min", "max":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case s.Type == "integer" && name == "min":
				s.Minimum = json.Number(value)
			case s.Type == "integer":
				s.Maximum = json.Number(value)
			case s.Type == "array" && name == "min":
				s.MinItems = &n
			case s.Type == "array":
				s.MaxItems = &n
			}
		case "required":
			if s.Type == "integer" {
				s.Minimum = "1"
			} else if s.Type == "string" {
				s.MinLength = ptr(1)
			}
		case "oneof":
			s.Enum = anys(strings.Fields(value))
		case "id":
			s.Pattern = config.IDPattern
		case "ip":
			s.AnyOf = []*jsonschema.Schema{{Format: "ipv4"}, {Format: "ipv6"}}
		case "", "omitempty", "dive":
		default:
			t.Fatalf("the schema does not know the rule %q", name)
		}
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func ptr(n uint64) *uint64 { return &n }

func anys(texts []string) []any {
	var list []any
	for _, t := range texts {
		list = append(list, t)
	}
	return list
}

func compileSchema(t *testing.T) *jsonschemav6.Schema {
	t.Helper()
	text, err := provisioner.ConfigSchema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschemav6.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschemav6.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("config.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("config.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConfigSchemaAgreesWithLoader(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	check := func(t *testing.T, data []byte) error {
		t.Helper()
		text, err := sigsyaml.YAMLToJSON(data)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschemav6.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(doc)
	}
	good, err := filepath.Glob("testdata/config/*")
	if err != nil || len(good) == 0 {
		t.Fatalf("no good configurations (%v)", err)
	}
	for _, file := range good {
		// Through the loader, since YAML 1.1 in sigs.k8s.io/yaml takes "answer: off" for false.
		loaded, err := provisioner.LoadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(loaded)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(t, text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, name := range []string{
		"key_misspelled", "key_case", "key_in_block", "required_missing", "id_upper", "id_long", "port_text", "port_zero",
		"port_large", "replicas_zero", "replicas_many", "host_name", "model_text", "flags_text", "env_number",
		"env_name", "env_owned", "env_secret_both", "api_key_plain", "api_key_none", "api_key_both", "api_key_value",
		"gpu_unknown", "devices_bad", "devices_empty", "mode_unknown", "container_words", "binary_text", "custom_command_empty", "custom_command_text", "custom_misspelled", "custom_env_number", "custom_grace", "answer_bool", "duration_number",
		"drain_hook_both", "drain_hook_empty", "drain_hook_headers", "drain_hook_text", "drain_hook_words", "drain_timeout_number",
		"duration_text", "logs_keep_many", "logs_keep_zero", "logs_size_number", "logs_size_text", "pools_none", "pools_missing", "not_a_block", "json", "many",
	} {
		data, err := os.ReadFile("testdata/badconfig/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if check(t, data) == nil {
			t.Errorf("%s is valid by the schema", name)
		}
	}
}

// TestConfigSchemaHasEveryKey compares the schema's properties with the keys that the loader takes.
func TestConfigSchemaHasEveryKey(t *testing.T) {
	t.Parallel()
	text, err := provisioner.ConfigSchema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs map[string]struct {
			AdditionalProperties *bool `json:"additionalProperties"`
			Properties           map[string]struct {
				Description string `json:"description"`
			} `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	for _, of := range schemaTypes() {
		typ := reflect.TypeOf(of)
		def := schema.Defs[schemaName(typ)]
		if def.AdditionalProperties == nil || *def.AdditionalProperties {
			t.Errorf("%s allows other keys", schemaName(typ))
		}
		var keys []string
		for _, f := range reflect.VisibleFields(typ) {
			if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" && key != "-" {
				keys = append(keys, key)
			}
		}
		if got := slices.Sorted(maps.Keys(def.Properties)); !slices.Equal(got, slices.Sorted(slices.Values(keys))) {
			t.Errorf("%s has %q, the loader takes %q", schemaName(typ), got, keys)
		}
		for key, property := range def.Properties {
			if property.Description == "" {
				t.Errorf("%s.%s has no description", schemaName(typ), key)
			}
		}
	}
}
