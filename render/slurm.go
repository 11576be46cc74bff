package render

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"mvdan.cc/sh/v3/syntax"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/render/internal/workload"
	"github.com/llama-orch/engine-provisioner/settings"
)

// SlurmOptions say what a pools file does not. The zero value is usable.
type SlurmOptions struct {
	Pool     string        // the one to render; "" is all of them
	Time     time.Duration // limit of each task; 0 is the partition's own
	KillWait time.Duration // between SIGTERM and SIGKILL, as slurm.conf says; 0 is Slurm's default of 30 seconds
	Memory   settings.Size // of each task; 0 is the estimate, where the model is here
}

// killWait is Slurm's default of KillWait.
const killWait = 30 * time.Second

// Slurm returns a batch script for each pool: an array with a task for each replica, which has a state directory of its own, ends
// with its engine, and is told to end before its time is over. It is to be submitted where the pools file's paths are good.
func Slurm(config *provisioner.Config, o SlurmOptions) ([]File, error) {
	all, err := workload.All(config, o.Pool, workload.Options{Place: workload.Node})
	if err != nil {
		return nil, err
	}
	var files []File
	var failed []error
	for _, w := range all {
		text, err := batch(w, o)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		files = append(files, File{Name: w.Name + ".sbatch", Text: text})
	}
	return files, errors.Join(failed...)
}

func batch(w workload.Workload, o SlurmOptions) (string, error) {
	limit := cmp.Or(o.KillWait, killWait)
	if w.Stop > limit {
		c := &w.Pool.ProvisionConfig
		drain := limit - (w.Stop - time.Duration(*c.WithDefaults().Drain.Timeout))
		if drain < 0 {
			return "", fmt.Errorf("pool %q cannot be rendered: its stop.grace does not fit into the %s that Slurm waits before it kills (KillWait); shorten it, or name a longer KillWait with --kill-wait",
				w.Pool.ID, limit)
		}
		w.Notes = append(w.Notes, fmt.Sprintf("\"drain.timeout\" is %s: Slurm kills %s after scancel (KillWait; see --kill-wait)", drain, limit))
		c.Drain.Timeout = new(settings.Duration(drain))
		w.Stop = limit
	}
	if least := w.Stop + 2*workload.Margin; o.Time != 0 && o.Time < least {
		return "", fmt.Errorf("pool %q cannot be rendered: a task of %s would be told to end as soon as it starts; give it more than %s with --time, or shorten \"drain.timeout\"",
			w.Pool.ID, o.Time, least)
	}
	file, err := w.File("")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	option := func(format string, args ...any) { fmt.Fprintf(&b, "#SBATCH --"+format+"\n", args...) }
	b.WriteString("#!/bin/bash\n")
	option("job-name=%s", w.Name)
	option("array=0-%d", w.Replicas-1)
	option("nodes=1")
	option("ntasks=1")
	if w.GPUs > 0 {
		option("gres=gpu:%d", w.GPUs)
	}
	if memory := cmp.Or(o.Memory, w.Memory); memory > 0 {
		option("mem=%dM", int64(math.Ceil(float64(memory)/(1<<20))))
	}
	if o.Time > 0 {
		option("time=%d:%02d", int(o.Time.Minutes()), int(o.Time.Seconds())%60)
	}
	option("signal=B:TERM@%d", int((w.Stop + workload.Margin).Seconds()))
	option("requeue")
	fmt.Fprintf(&b, "# Pool %q, rendered by engine-provisioner. Change the pools file and render it again.\n", w.Pool.ID)
	for _, s := range w.Variables() {
		fmt.Fprintf(&b, "# It needs the variable %s (%s): sbatch --export=ALL takes it over from your shell.\n", s.Env, s.Key)
	}
	b.WriteString(w.Comments())
	dir, err := syntax.Quote(cmp.Or(w.Pool.Dir, "."), syntax.LangBash)
	if err != nil {
		return "", fmt.Errorf("pool %q cannot be rendered: its folder %q: %w", w.Pool.ID, w.Pool.Dir, err)
	}
	if w.GPUs > 0 {
		b.WriteString("# Slurm shows a task its own GPUs alone with ConstrainDevices=yes in cgroup.conf; without, write \"gpu: unmanaged\", which takes\n" +
			"# CUDA_VISIBLE_DEVICES as Slurm sets it.\n")
	}
	end := "END-" + workload.Hash(file) // which no line of the file is
	fmt.Fprintf(&b, `set -eu
cd %s
state=.runtime-slurm/%s-${SLURM_ARRAY_JOB_ID}-${SLURM_ARRAY_TASK_ID}
exec engine-provisioner --config - --pool %s --replica "r${SLURM_ARRAY_TASK_ID}" --state-dir "$state" <<'%s'
%s%s
`, dir, w.Name, w.Pool.ID, end, file, end)
	return b.String(), nil
}
