package render

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/render/internal/workload"
)

// Quadlet returns a unit of Podman's Quadlet for each replica, and the pools file that each of its pools needs beside it. They go
// into /etc/containers/systemd, or into ~/.config/containers/systemd for a user's own; Podman 4.5 or newer makes services of them.
func Quadlet(config *provisioner.Config, o ContainerOptions) ([]File, error) {
	all, err := o.workloads(config)
	if err != nil {
		return nil, err
	}
	var files []File
	var failed []error
	for _, w := range all {
		file, err := w.File(workload.StateDir)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		executable, err := source("--executable", o.executable())
		models, failure := source("the folder of its model", w.Model.Folder)
		if err = errors.Join(err, failure); err != nil {
			failed = append(failed, fmt.Errorf("pool %q cannot be rendered: %w", w.Pool.ID, err))
			continue
		}
		files = append(files, File{Name: w.Name + ".pools.yaml", Text: file})
		for i := range w.Replicas {
			files = append(files, File{Name: fmt.Sprintf("%s-r%d.container", w.Name, i), Text: o.unit(w, i, executable, models)})
		}
	}
	return files, errors.Join(failed...)
}

func (o ContainerOptions) unit(w workload.Workload, replica int, executable, models string) string {
	var b strings.Builder
	key := func(name, format string, args ...any) { fmt.Fprintf(&b, name+"="+format+"\n", args...) }
	fmt.Fprintf(&b, "# Pool %q, rendered by engine-provisioner. Change the pools file and render it again.\n", w.Pool.ID)
	for _, s := range w.Secrets {
		fmt.Fprintf(&b, "# It needs the secret %s-%s (%s): podman secret create %s-%s FILE\n", w.Name, name(s), s.Key, w.Name, name(s))
	}
	b.WriteString(w.Comments())
	b.WriteString("[Unit]\n")
	key("Description", "LLM engine %s/r%d", w.Pool.ID, replica)
	b.WriteString("\n[Container]\n")
	key("Image", "%s", w.Image)
	key("PodmanArgs", "--entrypoint=%s", workload.Command) // "Entrypoint" is of Podman 5.0 and newer
	key("Exec", "--config %s/pools.yaml", workload.ConfigDir)
	key("WorkingDir", "%s", workload.StateRoot)
	key("Volume", "%s:%s:ro", executable, workload.Command)
	key("Volume", "./%s.pools.yaml:%s/pools.yaml:ro", w.Name, workload.ConfigDir)
	key("Volume", "%s-r%d-state:%s", w.Name, replica, workload.StateRoot)
	if models != "" {
		key("Volume", "%s:%s:ro", models, workload.ModelDir)
	}
	key("Environment", "HOME=/tmp")
	if w.Model.Cached {
		key("Volume", "%s-cache:%s", w.Name, workload.CacheDir)
		key("Environment", "XDG_CACHE_HOME=%s HF_HOME=%s/huggingface", workload.CacheDir, workload.CacheDir)
	}
	for _, s := range w.Variables() {
		key("Secret", "%s-%s,type=env,target=%s", w.Name, name(s), s.Env)
	}
	for _, s := range w.Files() {
		key("Secret", "%s-%s,type=mount,target=%s/%s", w.Name, name(s), workload.SecretDir, s.File)
	}
	key("PublishPort", "%s", published(w, replica))
	if w.ShmSize > 0 {
		key("ShmSize", "%s", megabytes(w.ShmSize))
	}
	if w.GPUs > 0 {
		if w.GPUs > 1 {
			b.WriteString("# note: all GPUs are given, since it needs several; name those that it may have instead\n")
		}
		key("AddDevice", "nvidia.com/gpu=all")
	}
	key("HealthCmd", "%s status --state-dir %s --check", workload.Command, workload.StateDir)
	key("HealthInterval", "10s")
	key("HealthTimeout", "10s")
	key("HealthStartPeriod", "%s", seconds(w.Start))
	key("StopTimeout", "%d", int(w.Stop.Seconds()))
	key("Label", "engine-provisioner.pool=%s engine-provisioner.replica=r%d", w.Pool.ID, replica)
	b.WriteString("\n[Service]\n")
	key("Restart", "on-failure")
	key("TimeoutStartSec", "%s", seconds(time.Hour)) // for the image
	key("TimeoutStopSec", "%s", seconds(w.Stop+workload.Margin))
	if memory := cmp.Or(o.Memory, w.Memory); memory > 0 {
		key("MemoryLow", "%d", int64(memory))
	}
	b.WriteString("\n[Install]\nWantedBy=default.target multi-user.target\n")
	return b.String()
}

func name(s workload.Secret) string { return workload.Label(cmp.Or(s.File, s.Env)) }

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }

// source is a path as the first part of "Volume", which is one text and no words: quotes would be of the path. Podman takes it apart
// at ":", which nothing escapes. It goes into a command line of systemd, which fills in what follows "%" and "$".
func source(what, path string) (string, error) {
	if strings.ContainsFunc(path, func(r rune) bool { return r == ':' || unicode.IsControl(r) }) {
		return "", fmt.Errorf("%s is %q, which no unit can mount; rename it, or make a link to it without colons and control characters", what, path)
	}
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(path), nil
}
