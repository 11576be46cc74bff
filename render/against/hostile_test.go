package against

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containers/podman/v5/pkg/systemd/parser"
	"github.com/containers/podman/v5/pkg/systemd/quadlet"
	appsv1 "k8s.io/api/apps/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/render"
	"github.com/llama-orch/engine-provisioner/render/kubernetes"
)

// A folder of any name is the folder that is mounted, by who reads what was rendered, or an error that names the way.
func TestFoldersAreThemselves(t *testing.T) {
	t.Parallel()
	// rapid draws short texts of these, and some that are known to mean something.
	part := rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("ab $%:\"'\\\n\t\r{}();#é\x7f`,=-~")), 1, 12, -1),
		rapid.SampledFrom([]string{"a\nPodmanArgs=--privileged", "a\n---\nkind: Secret", "$HOME", "${X:?}", "%h", "{{.V}}", "a b", "it's", "a:b", "x\\", "$(id)", "#", "END"}),
	)
	var mounted, refused int
	rapid.Check(t, func(t *rapid.T) {
		folder := path.Clean("/srv/" + part.Draw(t, "folder"))
		config, err := provisioner.ParseConfig([]byte("pools: [{id: a, engine: llamacpp, port: 8080, gpu: none, expose: open, host: 0.0.0.0, model: {id: m.gguf}}]"),
			filepath.Join(folder, "pools.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		container := render.ContainerOptions{EngineImage: "localhost/engine:1"}

		manifests, err := kubernetes.Render(config, kubernetes.Options{EngineImage: container.EngineImage})
		if err != nil {
			t.Fatal(err)
		}
		if got := hostPath(t, manifests[0].Text); got != folder {
			t.Fatalf("a pod mounts %q, not %q", got, folder)
		}
		file, err := render.Compose(config, container)
		if err != nil {
			t.Fatal(err)
		}
		if got := composed(t, file.Text); got != folder {
			t.Fatalf("Compose mounts %q, not %q", got, folder)
		}
		scripts, err := render.Slurm(config, render.SlurmOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := entered(t, scripts[0].Text); got != folder {
			t.Fatalf("a task enters %q, not %q", got, folder)
		}
		units, err := render.Quadlet(config, container)
		if err != nil {
			refused++
			if !strings.ContainsAny(folder, ":\n\t\r\x7f") || !strings.Contains(err.Error(), "make a link to it") {
				t.Fatalf("%q: %v", folder, err)
			}
			return
		}
		mounted++
		if got := generated(t, units[1].Text); got != folder {
			t.Fatalf("Podman mounts %q, not %q", got, folder)
		}
	})
	if mounted == 0 || refused == 0 {
		t.Errorf("%d were mounted and %d refused: one of them was not tried", mounted, refused)
	}
}

func hostPath(t *rapid.T, text string) string {
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if !strings.Contains(doc, "\nkind: Deployment\n") {
			continue
		}
		var d appsv1.Deployment
		if err := yaml.UnmarshalStrict([]byte(doc), &d); err != nil {
			t.Fatal(err)
		}
		for _, v := range d.Spec.Template.Spec.Volumes {
			if v.HostPath != nil {
				return v.HostPath.Path
			}
		}
	}
	return ""
}

func composed(t *rapid.T, text string) string {
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: "/srv", ConfigFiles: []types.ConfigFile{{Filename: "/srv/compose.yaml", Content: []byte(text)}}, Environment: types.Mapping{},
	}, func(o *loader.Options) { o.SetProjectName("llm", true) })
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	volumes := project.Services["a-r0"].Volumes
	i := slices.IndexFunc(volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/models" })
	return volumes[i].Source
}

// entered is where the script's own shell goes to.
func entered(t *rapid.T, script string) string {
	cmd := exec.Command("bash", "-c", "cd() { printf %s \"$1\"; exit; }\n"+script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, script)
	}
	return string(out)
}

// generated is what the command line of the unit that Podman makes mounts, once systemd has filled in what it does.
func generated(t *rapid.T, text string) string {
	unit := parser.NewUnitFile()
	if err := unit.Parse(text); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	unit.Path, unit.Filename = "/etc/containers/systemd/a-r0.container", "a-r0.container"
	service, warnings, err := quadlet.ConvertContainer(unit, false, map[string]*quadlet.UnitInfo{unit.Filename: {ServiceName: "a-r0"}})
	if err != nil || warnings != nil {
		t.Fatalf("%v, %v: %s", err, warnings, text)
	}
	words, _, _ := service.LookupLastArgs("Service", "ExecStart")
	if slices.Contains(words, "--privileged") {
		t.Fatalf("a folder has become an option: %q", words)
	}
	for i, w := range words {
		source, ok := strings.CutSuffix(w, ":/models:ro")
		if !ok || words[i-1] != "-v" {
			continue
		}
		if strings.Contains(source, ":") { // Podman takes it apart there
			t.Fatalf("Podman mounts a part of %q", source)
		}
		for _, special := range []string{"$", "%"} {
			if strings.Contains(strings.ReplaceAll(source, special+special, ""), special) {
				t.Fatalf("systemd fills in %q", source)
			}
			source = strings.ReplaceAll(source, special+special, special)
		}
		return source
	}
	t.Fatalf("no mount in %q", words)
	return ""
}
