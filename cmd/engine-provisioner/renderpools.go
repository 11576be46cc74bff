package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/filearg"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/render"
	"github.com/llama-orch/engine-provisioner/render/kubernetes"
	"github.com/llama-orch/engine-provisioner/settings"
)

// renderer is a command that renders the pools of a file for another place, as files in a folder where one is named.
func (c *cli) renderer(use, short, long, example string, files func(config *provisioner.Config, dir string) ([]render.File, error)) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: use + " [--config FILE]", Short: short, Args: noArguments, Example: example,
		Long: long + ` Nothing is started, no file but the pools file and the header of a model is looked at,
and equal files give equal texts. What could not be carried over stands in comments; what cannot work there is an error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.needFile(cmd); err != nil {
				return err
			}
			config, err := c.config()
			if err != nil {
				return err
			}
			rendered, err := files(config, dir)
			if err != nil {
				return err
			}
			return c.writeRendered(dir, rendered)
		},
	}
	cmd.Flags().VarP((*filearg.Once)(&c.configFile), "config", "c", "the pools file (default: pools.yaml, if it is here)")
	cmd.Flags().StringVar(&dir, "dir", "", "write the files into this folder instead of printing them")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

// writeRendered prints files, or writes them into a folder.
func (c *cli) writeRendered(dir string, files []render.File) error {
	for i, f := range files {
		switch {
		case dir != "":
			if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // what is rendered holds no secret
				return fmt.Errorf("cannot make the folder for what is rendered: %w", err)
			}
			path := filepath.Join(dir, f.Name)
			if err := atomicfile.ReplaceFor(path, []byte(f.Text), 0o644, -1); err != nil {
				return fmt.Errorf("cannot write what is rendered: %w", err)
			}
			fmt.Fprintln(c.std.out, path)
		case c.output.json:
			if err := writeJSON(c.std.out, f); err != nil {
				return err
			}
		default:
			if len(files) > 1 && filepath.Ext(f.Name) != ".yaml" || i > 0 {
				fmt.Fprintf(c.std.out, "# %s\n", f.Name)
			}
			if _, err := io.WriteString(c.std.out, f.Text); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cli) renderKubernetesCommand() *cobra.Command {
	var o kubernetes.Options
	cmd := c.renderer("kubernetes", "Print manifests of Kubernetes for the pools of a file",
		`Print a ConfigMap, a Deployment (a StatefulSet where each replica fetches its model), Services and what belongs to them for each
pool: its pods run this command in the image of the engine, with one replica each.`,
		`  engine-provisioner render kubernetes --config pools.yaml | kubectl apply --filename -
  engine-provisioner render kubernetes --config pools.yaml --dir base   # with a kustomization to lay an overlay over`,
		func(config *provisioner.Config, dir string) ([]render.File, error) {
			files, err := kubernetes.Render(config, o)
			if err == nil && dir != "" {
				files = append(files, kubernetes.Kustomization(files))
			}
			return files, err
		})
	f := cmd.Flags()
	f.StringVar(&o.Pool, "pool", "", "the pool to render (default: all)")
	f.StringVar(&o.Image, "image", "", `image that holds this command (default "engine-provisioner:latest")`)
	f.StringVar(&o.EngineImage, "engine-image", "", "image of the engine (default: the one that its authors publish, in mode container)")
	f.StringVarP(&o.Namespace, "namespace", "n", "", "namespace of what is rendered (default: none)")
	f.StringVar(&o.GPUResource, "gpu-resource", "", `what a GPU is called there (default "nvidia.com/gpu")`)
	f.StringVar(&o.ModelClaim, "model-claim", "", "PersistentVolumeClaim with the files of local models (default: the same folder of each node)")
	f.Var((*sizeValue)(&o.CacheSize), "cache-size", "volume of each replica for what it fetches (default 100GiB)")
	f.Var((*sizeValue)(&o.Memory), "memory", "what each replica asks for (default: the estimate, where the model is here)")
	return cmd
}

func (c *cli) renderSlurmCommand() *cobra.Command {
	var o render.SlurmOptions
	cmd := c.renderer("slurm", "Print batch scripts of Slurm for the pools of a file",
		`Print a batch script for each pool: an array with a task for each replica, which has a state directory of its own, ends with its
engine, and is told to drain before its time is over. Submit it where the paths of the pools file are good.`,
		"  engine-provisioner render slurm --config pools.yaml --pool chat --time 24h | sbatch",
		func(config *provisioner.Config, _ string) ([]render.File, error) { return render.Slurm(config, o) })
	f := cmd.Flags()
	f.StringVar(&o.Pool, "pool", "", "the pool to render (default: all)")
	f.DurationVar(&o.Time, "time", 0, "limit of each task (default: the partition's)")
	f.DurationVar(&o.KillWait, "kill-wait", 0, "KillWait of slurm.conf, within which a cancelled task must end (default 30s)")
	f.Var((*sizeValue)(&o.Memory), "memory", "what each task asks for (default: the estimate, where the model is here)")
	return cmd
}

func (c *cli) containerFlags(cmd *cobra.Command, o *render.ContainerOptions) *cobra.Command {
	f := cmd.Flags()
	f.StringVar(&o.Pool, "pool", "", "the pool to render (default: all)")
	f.StringVar(&o.EngineImage, "engine-image", "", "image of the engine (default: the one that its authors publish, in mode container)")
	f.StringVar(&o.Executable, "executable", "", `path of this command on the node (default "/usr/bin/engine-provisioner")`)
	f.Var((*sizeValue)(&o.Memory), "memory", "what each replica asks for (default: the estimate, where the model is here)")
	return cmd
}

func (c *cli) renderComposeCommand() *cobra.Command {
	o := new(render.ContainerOptions)
	return c.containerFlags(c.renderer("compose", "Print a file of Compose for the pools of a file",
		`Print a file of Compose with a service for each replica, which runs this command in the image of the engine. Docker Compose 2.23.1 or
newer reads it.`,
		"  engine-provisioner render compose --config pools.yaml > compose.yaml && docker compose up --detach",
		func(config *provisioner.Config, _ string) ([]render.File, error) {
			file, err := render.Compose(config, *o)
			return []render.File{file}, err
		}), o)
}

func (c *cli) renderQuadletCommand() *cobra.Command {
	o := new(render.ContainerOptions)
	return c.containerFlags(c.renderer("quadlet", "Print Quadlet units of Podman for the pools of a file",
		`Print a unit of Podman's Quadlet for each replica, which runs this command in the image of the engine, and the file that it reads.`,
		"  engine-provisioner render quadlet --config pools.yaml --dir ~/.config/containers/systemd && systemctl --user daemon-reload",
		func(config *provisioner.Config, _ string) ([]render.File, error) { return render.Quadlet(config, *o) }), o)
}

// sizeValue is a flag that takes a size as pools files have them, such as "8GiB".
type sizeValue settings.Size

func (v *sizeValue) String() string {
	if *v == 0 {
		return ""
	}
	return settings.Size(*v).String()
}

func (v *sizeValue) Type() string { return "SIZE" }

func (v *sizeValue) Set(text string) error {
	data, err := json.Marshal(text)
	if err != nil {
		return err
	}
	return (*settings.Size)(v).UnmarshalJSON(data)
}
