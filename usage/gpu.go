package usage

import (
	"cmp"
	"context"
	"slices"

	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// measureGPUs adds what the processes of launches hold of GPUs, in one question to the drivers. A driver that fails or hangs
// tells nothing.
func (m *Meter) measureGPUs(ctx context.Context, launches []*launch, members [][]procfs.Stat, all []*Usage) {
	owner := map[int]*Usage{}
	var pids []int
	for i, l := range launches {
		if l == nil || len(l.rec.Launch.GPUs) == 0 {
			continue
		}
		for _, p := range members[i] {
			owner[p.PID] = all[i]
			pids = append(pids, p.PID)
		}
	}
	if len(pids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	held, _ := gpu.Ask(ctx, func() ([]gpu.Holding, error) { return m.gpus.Processes(pids) })
	for _, h := range held {
		if u := owner[h.PID]; u != nil && h.Bytes > 0 { // 0 is of one that uses the GPU, and nobody knows how much of it
			u.hold(h.GPU, int64(h.Bytes))
		}
	}
}

func (u *Usage) hold(id string, bytes int64) {
	at, known := slices.BinarySearchFunc(u.GPUs, id, func(g GPU, id string) int { return cmp.Compare(g.ID, id) })
	if !known {
		u.GPUs = slices.Insert(u.GPUs, at, GPU{ID: id})
	}
	u.GPUs[at].Memory += bytes
	if u.GPUMemory == nil {
		u.GPUMemory = new(int64)
	}
	*u.GPUMemory += bytes
}
