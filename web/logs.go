package web

import (
	"net/http"
	"os"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// logs is the end of the log of a replica's last launch: whole lines of its last 64 KiB, cleaned.
func (s *face) logs(w http.ResponseWriter, r *http.Request) {
	status, asked, err := s.replicaOf(r)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case !asked:
		http.Error(w, "name a replica: ?replica=POOL/REPLICA", http.StatusBadRequest)
		return
	case status.Log == "":
		http.Error(w, status.ID().String()+" has no log yet", http.StatusNotFound)
		return
	}
	file := procfs.OpenMoved(status.PID, status.Log) // what was removed or renamed, the engine still writes
	if file == nil {
		if file, err = os.Open(status.Log); err != nil {
			http.Error(w, "cannot read the log: "+err.Error(), http.StatusNotFound)
			return
		}
	}
	defer file.Close()
	answer(w, strings.Join(tail.LinesOf(file), "\n"))
}
