// Package against holds what we make of the services of Compose files against compose-go's own loader. It is a module of its
// own, since the loader brings a compiler of schemas, which only this needs.
package against

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"

	"github.com/llama-orch/engine-provisioner/importer/internal/composefile"
)

// services are those of a file as they stand there; twice, since who reads them may change them.
func services(t *testing.T, text string) (ours, theirs map[string]any) {
	t.Helper()
	for _, into := range []*map[string]any{&ours, &theirs} {
		var file struct {
			Services map[string]any `yaml:"services"`
		}
		if err := yaml.Unmarshal([]byte(text), &file); err != nil {
			t.Fatal(err)
		}
		for _, service := range file.Services { // their loader would read these files
			if m, ok := service.(map[string]any); ok {
				delete(m, "env_file")
				if extends, ok := m["extends"].(map[string]any); ok && extends["file"] != nil {
					delete(m, "extends")
				}
			}
		}
		*into = file.Services
	}
	return ours, theirs
}

func load(t *testing.T, services map[string]any) (types.Services, error) {
	t.Helper()
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  "/srv",
		ConfigFiles: []types.ConfigFile{{Filename: "/srv/compose.yaml", Content: []byte{}, Config: map[string]any{"services": services}}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) {
		o.SetProjectName("import", true)
		o.SkipInclude = true
		o.SkipNormalization = true
		o.SkipConsistencyCheck = true
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
		o.Interpolate.Substitute = func(text string, _ template.Mapping) (string, error) { return text, nil }
		o.Profiles = []string{"*"}
	})
	if err != nil {
		return nil, err
	}
	return project.Services, nil
}

// compare fails where the two make different things of a file.
func compare(t *testing.T, text string) {
	t.Helper()
	mine, other := services(t, text)
	got, err := composefile.Services(mine, "/srv")
	if err != nil {
		t.Errorf("%v\n%s", err, text)
		return
	}
	want, err := load(t, other)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for name, service := range want {
		if !reflect.DeepEqual(got[name], service) {
			a, _ := json.Marshal(got[name])
			b, _ := json.Marshal(service)
			t.Errorf("%s: ours\n%s\ntheirs\n%s\nof\n%s", name, a, b, text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d services, want %d\n%s", len(got), len(want), text)
	}
}

func TestFilesOfTheImporter(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../../testdata/compose/*.yaml")
	if err != nil || len(files) < 9 {
		t.Fatalf("%d files (%v)", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, variable.ReplaceAllStringFunc(string(text), func(v string) string {
			return cmp.Or(variable.FindStringSubmatch(v)[1], "1")
		}))
	}
}

// variable is one with its default, which stands for it here; 1 for none.
var variable = regexp.MustCompile(`\$\{\w+:?[-?]?([^}]*)\}`)

// TestForms tries the ways to write a key, each in a service of its own and all in one that extends another.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{
		{`command: --model a/b "c d"`, `entrypoint: [sh, -c, "x y"]`},
		{`command: [a, b]`, `entrypoint: x y`},
		{`command: []`},
		{`command: ""`},
		{`command: null`},
		{`environment: [A=1, B, "C="]`},
		{`environment: {A: 1, B: , C: "", D: true, E: 1.5}`},
		{`ports: ["8000", "8000:8001", "127.0.0.1:9000-9001:8000-8001/udp", 7000]`},
		{`ports: [{target: 80, published: 8080, host_ip: 10.0.0.1}]`},
		{`ports: [{target: "80", published: "8080"}]`},
		{`volumes: ["./a:/b", "../c:/d:ro", "name:/e", "/f", "~/g:/h:z"]`},
		{`volumes: [{type: bind, source: ./a, target: /b, read_only: true, bind: {propagation: rshared}}]`},
		{`volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1g}}, {type: volume, source: v, target: /v, volume: {nocopy: "true"}}]`},
		{`gpus: all`},
		{`gpus: [{driver: nvidia, count: 2}]`},
		{`gpus: [{device_ids: ["0", "3"]}]`},
		{`runtime: nvidia`},
		{`deploy: {replicas: 3, resources: {reservations: {devices: [{driver: nvidia, count: all, capabilities: [gpu]}]}, limits: {memory: 8g, cpus: "2.5"}}}`},
		{`deploy: {replicas: "2", resources: {reservations: {devices: [{device_ids: ["1"], capabilities: [gpu]}]}}}`},
		{`devices: ["/dev/kfd", "/dev/dri:/dev/dri:rwm", "nvidia.com/gpu=all"]`},
		{`devices: [{source: /dev/a, target: /dev/b}]`},
		{`stop_grace_period: 1m30s`},
		{`shm_size: 16gb`},
		{`shm_size: 1024`},
		{`scale: 2`},
		{`scale: "2"`},
		{`networks: [a, b]`},
		{`networks: {a: {aliases: [x]}, b: }`},
		{`network_mode: host`, `ipc: host`, `user: "1000:1000"`, `working_dir: /w`, `pull_policy: always`, `restart: unless-stopped`},
		{`build: .`},
		{`build: {context: ./x, args: {A: 1}}`},
		{`healthcheck: {test: curl -f x, interval: 5s, retries: "3"}`},
		{`healthcheck: {test: [CMD, x], disable: true}`},
		{`labels: {a: b, c: 1}`},
		{`labels: [a=b]`},
		{`ulimits: {memlock: -1, nofile: {soft: 1, hard: 2}}`},
		{`depends_on: [y]`},
		{`depends_on: {y: {condition: service_healthy}}`},
		{`logging: {driver: json-file, options: {max-size: "10m"}}`},
		{`tty: "true"`, `init: "TRUE"`, `privileged: true`, `read_only: "false"`},
		{`tmpfs: /x`},
		{`tmpfs: [/x, /y]`},
		{`expose: ["80", 81]`},
		{`dns: 1.1.1.1`},
		{`extra_hosts: ["a:1.2.3.4"]`},
		{`cap_add: [SYS_PTRACE]`, `security_opt: [seccomp=unconfined]`, `group_add: [video, 44]`},
		{`mem_limit: 8g`, `cpus: 2.5`, `pids_limit: 100`},
		{`profiles: [gpu]`},
		{`sysctls: {a: 1}`},
		{`secrets: [x]`},
		{`configs: [{source: y, target: /z}]`},
	} {
		body := "    image: a/b:c\n    " + strings.Join(keys, "\n    ") + "\n"
		compare(t, "services:\n  x:\n"+body+"  y: {image: d}\n")
		compare(t, "services:\n  base:\n"+body+"  x: {extends: base, command: other, environment: {A: 2, Z: 3}, ports: [\"1:2\"], volumes: [\"./z:/z\"]}\n  y: {extends: {service: x}, image: e}\n")
	}
}
