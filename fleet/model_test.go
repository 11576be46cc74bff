package fleet

import (
	provisioner "github.com/llama-orch/engine-provisioner"
)

func (j *journal) downloads() []provisioner.Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []provisioner.Progress
	for _, e := range j.events {
		if e.Kind == provisioner.EventProgress {
			all = append(all, *e.Progress)
		}
	}
	return all
}
