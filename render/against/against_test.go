// Package against holds what is rendered against those that read it: compose-go's own loader, the generator of Podman's Quadlet,
// and a strict reading into Kubernetes' types. It is a module of its own, since those bring much that only this needs.
package against

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containers/podman/v5/pkg/systemd/parser"
	"github.com/containers/podman/v5/pkg/systemd/quadlet"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/render"
)

func golden(t *testing.T, pattern string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../testdata/golden/" + pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s (%v)", pattern, err)
	}
	texts := map[string]string{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(data)
	}
	return texts
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	kinds := map[string]int{}
	for path, text := range golden(t, "kubernetes/*.yaml") {
		for doc := range strings.SplitSeq(text, "\n---\n") {
			var kind struct {
				Kind string `json:"kind"`
			}
			if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
				t.Fatal(err)
			}
			var object any
			switch kind.Kind {
			case "":
				continue
			case "ConfigMap":
				object = &corev1.ConfigMap{}
			case "Service":
				object = &corev1.Service{}
			case "Deployment":
				object = &appsv1.Deployment{}
			case "StatefulSet":
				object = &appsv1.StatefulSet{}
			case "PodDisruptionBudget":
				object = &policyv1.PodDisruptionBudget{}
			case "NetworkPolicy":
				object = &networkingv1.NetworkPolicy{}
			default:
				t.Errorf("%s: %q", path, kind.Kind)
			}
			kinds[kind.Kind]++
			if err := yaml.UnmarshalStrict([]byte(doc), object); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if len(kinds) != 6 {
		t.Errorf("kinds %v", kinds)
	}
}

func TestCompose(t *testing.T) {
	t.Parallel()
	for path, text := range golden(t, "compose/*.yaml") {
		project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
			WorkingDir: "/srv", ConfigFiles: []types.ConfigFile{{Filename: "/srv/compose.yaml", Content: []byte(text)}},
			Environment: types.Mapping{"API_KEY": "k", "GATE_KEY": "g"},
		}, func(o *loader.Options) { o.SetProjectName("llm", true) })
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if len(project.Services) != 3 {
			t.Errorf("%d services", len(project.Services))
		}
		for name, config := range project.Configs {
			if _, err := provisioner.ParseConfig([]byte(config.Content), "pools.yaml"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s := project.Services["chat-r1"]; *s.Environment["API_KEY"] != "k" || s.Ports[0].Published != "8081" || s.Ports[0].Target != 8080 || s.HealthCheck.Test[0] != "CMD" {
			t.Errorf("%+v", s)
		}
	}
}

// A value with a "$" is itself after Compose has filled in what it fills in.
func TestComposeDollars(t *testing.T) {
	t.Parallel()
	const flag = "--x=$HOME ${Y:?no} $$ %h"
	config, err := provisioner.ParseConfig([]byte("pools: [{id: a, engine: llamacpp, port: 80, gpu: none, model: {id: m.gguf}, provisioning: {mode: container}, "+
		`flags: ["`+flag+`"]}]`), "/srv/$x/pools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := render.Compose(config, render.ContainerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: "/srv", ConfigFiles: []types.ConfigFile{{Filename: "/srv/compose.yaml", Content: []byte(file.Text)}}, Environment: types.Mapping{},
	}, func(o *loader.Options) { o.SetProjectName("llm", true) })
	if err != nil {
		t.Fatal(err)
	}
	again, err := provisioner.ParseConfig([]byte(project.Configs["a"].Content), "pools.yaml")
	if err != nil || again.Pools[0].Flags[0] != flag {
		t.Errorf("%v: %s", err, project.Configs["a"].Content)
	}
	if source := project.Services["a-r0"].Volumes[2].Source; source != "/srv/$x" {
		t.Errorf("the model's folder is %q", source)
	}
}

func TestQuadlet(t *testing.T) {
	t.Parallel()
	for path, text := range golden(t, "quadlet/*.container") {
		unit := parser.NewUnitFile()
		if err := unit.Parse(text); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		unit.Path, unit.Filename = "/etc/containers/systemd/"+filepath.Base(path), filepath.Base(path)
		service, warnings, err := quadlet.ConvertContainer(unit, false, map[string]*quadlet.UnitInfo{unit.Filename: {ServiceName: strings.TrimSuffix(unit.Filename, ".container")}})
		if err != nil || warnings != nil {
			t.Fatalf("%s: %v, %v", path, err, warnings)
		}
		words, ok, _ := service.LookupLastArgs("Service", "ExecStart")
		line := strings.Join(words, " ")
		if !ok || !strings.Contains(line, " --entrypoint=/ep/engine-provisioner ") || !strings.HasSuffix(line, " localhost/engine:1 --config /etc/engine-provisioner/pools.yaml") ||
			!strings.Contains(line, "/etc/containers/systemd/") {
			t.Errorf("%s: %t %s", path, ok, line)
		}
	}
}
