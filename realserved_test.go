package provisioner

import (
	"strings"
)

// restarts is what the journal says of failures, a line each.
func (j *journal) restarts() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var lines []string
	for _, e := range j.events {
		if e.Kind == EventRestart {
			lines = append(lines, e.Message)
		}
	}
	return strings.Join(lines, "\n")
}
