package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	jsonschemav6 "github.com/santhosh-tekuri/jsonschema/v6"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// schemaBases are valid pools files that together have every block.
var schemaBases = []string{
	`{"pools": [{"id": "a", "engine": "llamacpp", "port": 8081, "model": {"id": "/m.gguf"}, "api_key": {"from_env": "KEY"}, "env": {"A": "b"},
		"provisioning": {"binary": {"path": "llama-server"}}, "ready": {}, "restart": {}, "liveness": {}, "stop": {}, "logs": {}, "download": {}, "handoff": {},
		"drain": {"hooks": [{"http": {"url": "http://router/", "headers": {"A": "b"}}}, {"command": ["true"]}]}}]}`,
	`{"pools": [{"id": "a", "engine": "llamacpp", "port": 8081, "model": {"id": "/m.gguf"},
		"provisioning": {"mode": "source", "source": {"repo": "https://host/r", "ref": "main"}}}]}`,
	`{"pools": [{"id": "a", "engine": "vllm", "port": 8081, "model": {"id": "/m"},
		"provisioning": {"mode": "package", "package": {"requirements": ["vllm==0.32.0"]}}}]}`,
	`{"pools": [{"id": "a", "engine": "vllm", "port": 8081, "model": {"id": "/m"},
		"provisioning": {"mode": "container", "container": {"image": "a/b", "tag": "c"}}}]}`,
	`{"pools": [{"id": "a", "engine": "custom", "port": 8081, "gpu": "none", "custom": {"command": ["serve", "{host}", "{port}"], "env": {"A": "b"},
		"version": {"path": "/v", "key": "version"}, "metrics": {"path": "/metrics", "required": ["a"]}, "answer": {"path": "/a", "body": "{}"}}}]}`,
}

// schemaValues are put under every key: the edges of each type, and what is beside them.
var schemaValues = func() (all []string) {
	for _, text := range []string{
		"", " ", "a", "A", "a-", "-a", "a_b", "a.b", "a b", "a/b", "/a", "./a", "../a", "a/", "~", "~/a", "$A", "${A}/b", "a$", "a\nb", "é",
		"0", "1", "10000", "9999", "-1", "127.0.0.1", "::1", "[::1]", "localhost", "256.0.0.1", "fe80::1%lo", "::ffff:1.2.3.4",
		"1s", "0s", "0", "-1s", ".5s", "5.s", "+5s", "1.5h", "100us", "100µs", "100μs", "24h", "24h1ns", "25h", "1440m", "1d", "1h1h", "90", "1S", "1 s", "1e3s", "0h0m", "0.0s", "1ns", "0.1ns",
		"64KiB", "65536B", "63KiB", "65535B", "64KB", "1TiB", "1025GiB", "1MiB", "500MB", "1 MiB", "1mib", "1.5GiB", "0B", "0064KiB", "16MiB", "99999999999999999999B", "9999999TiB",
		"auto", "off", "warn", "require", "adopt", "kill", "required", "none", "optional", "unmanaged", "engine", "provisioner", "binary", "source", "package", "container", "llamacpp", "vllm", "custom", "nobody",
		"0600", "0640", "0644", "0666", "640", "0o640", "GPU-1", "MIG-1/2", "0000:3b:00.0", "CUDA0", "Vulkan1000",
		"http://h/", "https://h/", "ftp://h", "https://u:p@h/", "unix:///s", "tcp://h", "hf:a/b", "local:/m", "sha256:0", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("0", 64),
		"sha256:" + strings.Repeat("0", 64), "{port}", "{}", "HOME", "CUDA_VISIBLE_DEVICES", "SIGTERM", "SIGQUIT", "bridge", "host", "private",
	} {
		data, _ := json.Marshal(text)
		all = append(all, string(data))
	}
	all = append(all, "null", "true", "false", "0", "1", "-1", "2", "1.0", "8081.0", "1e1", "1.5", "16", "17", "256", "257", "1000", "1001", "1024", "1025", "65535", "65536",
		"600", "640", "644", "666", "384", "416", "420", "9999", "10000", "99999999999999999999",
		"[]", "{}", `[""]`, `["a"]`, `["a","a"]`, `[null]`, `[0]`, `[0,0]`, `[0,1]`, `[10000]`, `[-1]`, `[1.5]`, `[true]`, `["auto"]`, `["auto",0]`, `[[]]`, `[{}]`, `["a","b"]`,
		`{"from_env":"A"}`, `{"from_file":"a"}`, `{"from_env":"A","from_file":"a"}`, `{"from_env":""}`, `{"from_env":"a b"}`, `{"A":"b"}`, `{"a b":"c"}`, `{"":"c"}`, `{"A":1}`, `{"A":{"from_env":"B"}}`, `{"A":{}}`, `{"A":null}`, `{"id":"a"}`)
	return all
}()

// variant is a pools file made of a base.
type variant struct {
	key, value string // what was put where
	doc        any
}

// variants are those of a part of a pools file and its schema; whole puts the part back into its place.
func variants(schema *jsonschemav6.Schema, part any, key string, whole func(any) any, visit func(variant)) {
	const few = 60 // of the values that do not suit a key, one of so many is tried
	for schema.Ref != nil {
		schema = schema.Ref
	}
	if key != "" {
		for i, value := range schemaValues {
			if (i+len(key)*7)%few == 0 || suits(schema, value) {
				visit(variant{key, value, whole(json.RawMessage(value))})
			}
		}
	}
	switch part := part.(type) {
	case map[string]any:
		with := func(name string, value any) any {
			next := maps.Clone(part)
			if next[name] = value; value == nil {
				delete(next, name)
			}
			return whole(next)
		}
		for _, s := range append([]*jsonschemav6.Schema{schema}, schema.OneOf...) {
			for s.Ref != nil {
				s = s.Ref
			}
			for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
				at := strings.TrimPrefix(key+"."+name, ".")
				variants(s.Properties[name], part[name], at, func(v any) any { return with(name, v) }, visit)
				visit(variant{at, "nothing", with(name, nil)})
			}
			if more, ok := s.AdditionalProperties.(*jsonschemav6.Schema); ok {
				for name := range part {
					variants(more, part[name], key+"."+name, func(v any) any { return with(name, v) }, visit)
				}
			}
		}
		visit(variant{key, "an unknown key", with("unknown_key", "a")})
	case []any:
		items, _ := schema.Items2020, true
		for _, s := range schema.OneOf {
			if items == nil {
				items = s.Items2020
			}
		}
		if items == nil {
			return
		}
		for i := range part {
			variants(items, part[i], fmt.Sprintf("%s[%d]", key, i), func(v any) any {
				next := slices.Clone(part)
				next[i] = v
				return whole(next)
			}, visit)
		}
	}
}

// suits tells whether a value is at the edge of what a key takes.
func suits(schema *jsonschemav6.Schema, value string) bool {
	text := strings.HasPrefix(value, `"`)
	has := func(s *jsonschemav6.Schema) bool {
		switch {
		case s.Pattern != nil && strings.Contains(s.Pattern.String(), "ns|us"):
			return durationLike.MatchString(value)
		case s.Pattern != nil && strings.Contains(s.Pattern.String(), "KMGT"):
			return sizeLike.MatchString(value)
		case s.Enum != nil:
			return value == `""` || slices.ContainsFunc(s.Enum.Values, func(v any) bool { return fmt.Sprintf("%q", v) == value })
		case s.Types != nil && strings.Contains(s.Types.String(), "integer"):
			return value != "" && strings.Trim(value, "-0123456789.e") == ""
		case s.Types != nil && strings.Contains(s.Types.String(), "array"):
			return strings.HasPrefix(value, "[")
		case s.Types != nil && strings.Contains(s.Types.String(), "object"):
			return strings.HasPrefix(value, "{")
		}
		return text && (s.Pattern != nil || s.AnyOf != nil) && len(value) < 20 && !durationLike.MatchString(value)
	}
	return has(schema) || slices.ContainsFunc(schema.OneOf, has)
}

var (
	durationLike = regexp.MustCompile(`^"[-+]?[.0-9]+ ?[a-zµμS]+[0-9a-z.]*"$|^"0"$`)
	sizeLike     = regexp.MustCompile(`^"[0-9. ]+[kKMGTi ]*B"$`)
)

// schemaCannot says which rules of the loader a schema cannot have, by the words in which they are told. There is nothing that
// the schema refuses and the loader takes.
var schemaCannot = map[string]string{
	"must be a whole number in plain digits":              "to a schema, 1.0 is a whole number",
	"of a group of users, such as \"llm\", is the number": "to a schema, 1.0 is a whole number",
	"must be more than 0 and at most 24h":                 "a pattern does not count",
	"must be from 64KiB to 1TiB":                          "a pattern does not count",
	"flags[0]: ":                                          "the engine judges its flags",
	"must be a name or an address without a port":         "the grammar of addresses",
	"listens where no other machine reaches it":           "two keys",
	"is about the copy of \"handoff.dir\"":                "two keys",
	"unknown engine":                                      "programs have engines of their own",
	"unknown pool":                                        "two keys",
	"so that none of them can be the":                     "two keys",
	"the drain that it is a part of ends":                 "two keys",
	"must be the name of a variable, or how names begin":  "the loader says which names may not be chosen",
	"cannot provide":                                      "two keys",
	"belongs to mode":                                     "two keys",
	"is missing; mode":                                    "two keys",
	"belongs to a model":                                  "two keys",
	"belongs to a download":                               "two keys",
	"stands beside":                                       "two keys",
	"says twice":                                          "two keys",
	"is missing; refer to the model":                      "two keys",
	"is missing; say how":                                 "two keys",
	"is missing; write the image's":                       "two keys",
	"other machines can reach":                            "two keys",
	"never run, since":                                    "two keys",
	"must be at least max_size":                           "two keys",
	"says nothing to install":                             "two keys",
	"is set in \"env\", too":                              "two keys",
	"custom.command: has no {":                            "two elements",
	"is not expanded":                                     "which references are paths depends on the engine",
	"names no file":                                       "which references are paths depends on the engine",
	"must be an address":                                  "it has placeholders",
	"must be JSON":                                        "text in a text",
	"which is no flag; write one element":                 "CMake's own grammar",
	"must be a path or a volume's name":                   "a grammar of its own",
	"must be the names of two flags":                      "a grammar of its own",
	"is no requirement":                                   "a grammar of its own",
	"is no argument of a command":                         "of some lists, elements may be empty",
	"arguments of the installer belong":                   "a grammar of its own",
	"extra_args[0]: is empty":                             "of some lists, elements may be empty",
	"must be a path that begins":                          "the same type is in the engines' contract",
	"is no name of a variable":                            "the same type is in the engines' contract",
}

// TestSchemaAndLoaderSayTheSame puts every value under every key. Where the two differ, schemaCannot says why.
func TestSchemaAndLoaderSayTheSame(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	n, bad := 0, 0
	tried := map[string]bool{}
	for _, base := range schemaBases {
		var doc any
		if err := json.Unmarshal([]byte(base), &doc); err != nil {
			t.Fatal(err)
		}
		if _, err := provisioner.ParseConfig([]byte(base), ""); err != nil {
			t.Fatal(err)
		}
		variants(schema, doc, "", func(v any) any { return v }, func(v variant) {
			of := v.key + "\x00" + v.value // of which the first base has tried all but what is of its mode
			if tried[of] && !strings.Contains(v.key, "engine") {
				return
			}
			tried[of] = true
			if n++; n%stride != 0 {
				return
			}
			text, err := json.Marshal(v.doc)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := jsonschemav6.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			_, loader := provisioner.ParseConfig(text, "")
			says := schema.Validate(parsed)
			var wrong *provisioner.ConfigError
			if loader != nil && !errors.As(loader, &wrong) {
				t.Fatal(loader)
			}
			if (loader == nil) == (says == nil) {
				return
			}
			if loader == nil {
				t.Errorf("the loader takes %s: %s, and the schema does not: %v", v.key, v.value, says)
				return
			}
			bad++
			for rule := range schemaCannot {
				if strings.Contains(wrong.Problems[0].Key+": "+wrong.Problems[0].Message, rule) {
					return
				}
			}
			t.Errorf("the schema takes %s: %s, and the loader does not: %s: %s", v.key, v.value, wrong.Problems[0].Key, wrong.Problems[0].Message)
		})
	}
	if n /= stride; n < 1000 {
		t.Errorf("only %d files", n)
	}
	t.Logf("%d files, %d of them against a rule that the schema cannot have", n, bad)
}
