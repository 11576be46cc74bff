package render

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/render/internal/workload"
	"github.com/llama-orch/engine-provisioner/settings"
)

// ContainerOptions say what a pools file does not. The zero value is usable where every pool is of mode "container".
type ContainerOptions struct {
	Pool        string        // the one to render; "" is all of them
	EngineImage string        // instead of the image that the engine's authors publish
	Executable  string        // the path of the engine-provisioner command on the node; "" is /usr/bin/engine-provisioner
	Memory      settings.Size // of each replica; 0 is the estimate, where the model is here
}

func (o ContainerOptions) workloads(config *provisioner.Config) ([]workload.Workload, error) {
	return workload.All(config, o.Pool, workload.Options{Image: o.EngineImage, Place: workload.Container})
}

func (o ContainerOptions) executable() string {
	return cmp.Or(o.Executable, "/usr/bin/engine-provisioner")
}

// Compose returns a file of Compose with a service for each replica, in the image of its engine, where the command from the node
// looks after it. "docker compose" 2.23.1 or newer reads it.
func Compose(config *provisioner.Config, o ContainerOptions) (File, error) {
	all, err := o.workloads(config)
	if err != nil {
		return File{}, err
	}
	services, configs, volumes, notes := map[string]any{}, map[string]any{}, map[string]any{}, ""
	for _, w := range all {
		file, err := w.File(workload.StateDir)
		if err != nil {
			return File{}, err
		}
		configs[w.Name] = map[string]any{"content": dollars(file)}
		for i := range w.Replicas {
			name := fmt.Sprintf("%s-r%d", w.Name, i)
			services[name] = o.service(w, i)
			volumes[name+"-state"] = nil
			if w.Model.Cached {
				volumes[w.Name+"-cache"] = nil
			}
		}
		for _, s := range w.Files() {
			notes += fmt.Sprintf("# Pool %q needs the secret %q (%s) in the file that \"secrets\" names.\n", w.Pool.ID, s.File, s.Key)
		}
		if text := w.Comments(); text != "" {
			notes += fmt.Sprintf("# Pool %q:\n%s", w.Pool.ID, text)
		}
	}
	doc := map[string]any{"services": services, "configs": configs, "volumes": volumes}
	if secrets := composeSecrets(all); len(secrets) > 0 {
		doc["secrets"] = secrets
	}
	text, err := workload.YAML(doc)
	if err != nil {
		return File{}, fmt.Errorf("cannot write a file of Compose: %w", err)
	}
	return File{
		Name: "compose.yaml",
		Text: "# Rendered by engine-provisioner. Change the pools file and render it again.\n" + notes + text,
	}, nil
}

func composeSecrets(all []workload.Workload) map[string]any {
	secrets := map[string]any{}
	for _, w := range all {
		for _, s := range w.Files() {
			secrets[w.Name+"-"+s.File] = map[string]any{"file": "./" + w.Name + "-" + s.File + ".secret"}
		}
	}
	return secrets
}

func (o ContainerOptions) service(w workload.Workload, replica int) map[string]any {
	name := fmt.Sprintf("%s-r%d", w.Name, replica)
	environment := map[string]any{"HOME": "/tmp"}
	for _, s := range w.Variables() {
		environment[s.Env] = fmt.Sprintf("${%s:?%s of pool %s}", s.Env, s.Key, w.Pool.ID)
	}
	mounts := []any{
		bind(o.executable(), workload.Command),
		map[string]any{"type": "volume", "source": name + "-state", "target": workload.StateRoot},
	}
	if w.Model.Folder != "" {
		mounts = append(mounts, bind(w.Model.Folder, workload.ModelDir))
	}
	if w.Model.Cached {
		mounts = append(mounts, map[string]any{"type": "volume", "source": w.Name + "-cache", "target": workload.CacheDir})
		environment["XDG_CACHE_HOME"], environment["HF_HOME"] = workload.CacheDir, workload.CacheDir+"/huggingface"
		if environment["HF_TOKEN"] == nil {
			environment["HF_TOKEN"] = "${HF_TOKEN:-}"
		}
	}
	service := map[string]any{
		"image": dollars(w.Image), "entrypoint": []string{workload.Command},
		"command":     []string{"--config", workload.ConfigDir + "/pools.yaml", "--http-addr", "127.0.0.1:" + strconv.Itoa(workload.HTTPPort)},
		"working_dir": workload.StateRoot,
		"configs":     []any{map[string]any{"source": w.Name, "target": workload.ConfigDir + "/pools.yaml"}},
		"environment": environment, "volumes": mounts, "restart": "unless-stopped",
		"ports": []any{map[string]any{
			"host_ip": w.Publish, "published": strconv.Itoa(w.Pool.Port + replica), "target": w.Pool.Port, "protocol": "tcp",
		}},
		"stop_grace_period": w.Stop.String(),
		"healthcheck": map[string]any{
			"test":     []string{"CMD", workload.Command, "status", "--state-dir", workload.StateDir, "--check"},
			"interval": "10s", "timeout": "10s", "retries": 3, "start_period": w.Start.String(), "start_interval": "2s",
		},
		"labels": map[string]any{"engine-provisioner.pool": w.Pool.ID, "engine-provisioner.replica": fmt.Sprintf("r%d", replica)},
	}
	if w.ShmSize > 0 {
		service["shm_size"] = int64(w.ShmSize)
	}
	var secrets []any
	for _, s := range w.Files() {
		secrets = append(secrets, map[string]any{"source": w.Name + "-" + s.File, "target": workload.SecretDir + "/" + s.File})
	}
	if secrets != nil {
		service["secrets"] = secrets
	}
	reservations := map[string]any{}
	if w.GPUs > 0 {
		reservations["devices"] = []any{map[string]any{"driver": "nvidia", "count": w.GPUs, "capabilities": []string{"gpu"}}}
	}
	if memory := cmp.Or(o.Memory, w.Memory); memory > 0 {
		reservations["memory"] = strconv.FormatInt(int64(memory), 10)
	}
	if len(reservations) > 0 {
		service["deploy"] = map[string]any{"resources": map[string]any{"reservations": reservations}}
	}
	return service
}

// bind mounts a file or folder of the node, to be read.
func bind(source, target string) map[string]any {
	return map[string]any{"type": "bind", "source": dollars(source), "target": target, "read_only": true, "bind": map[string]any{"create_host_path": false}}
}

// dollars is a text as Compose has it, which fills in what follows a "$".
func dollars(text string) string { return strings.ReplaceAll(text, "$", "$$") }

// published is the address and port of a replica on the node.
func published(w workload.Workload, replica int) string {
	return net.JoinHostPort(w.Publish, strconv.Itoa(w.Pool.Port+replica)) + ":" + strconv.Itoa(w.Pool.Port)
}

// megabytes is a size as Podman reads it.
func megabytes(size settings.Size) string { return strconv.FormatInt(int64(size)/(1<<20), 10) + "m" }
