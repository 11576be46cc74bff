package fleet

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/holds"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// keeper makes again what somebody removes from the state directory of a fleet: the manager's lock, the folders, and
// what is remembered of replicas. It looks once a second, with the inbox; as long as nothing is missing, that is an lstat for
// each replica.
type keeper struct {
	fleet *Fleet
	told  string // the last trouble, which is told once
}

func (k *keeper) look() {
	s := k.fleet
	again, err := s.manager.Keep()
	missing := again || !access.Exists(filepath.Join(s.state, state.RequestsName))
	for _, r := range s.all() {
		if missing || r.lost() {
			missing = true
			err = errors.Join(err, r.restore())
		}
	}
	switch {
	case err != nil:
		k.trouble(err)
	case missing:
		k.told = ""
		message := fmt.Sprintf("somebody has removed files of the state directory %q; what is needed is made again", s.state)
		s.log.Warn(message)
		s.tell(provisioner.Event{Time: time.Now().UTC(), Kind: provisioner.EventNote, Message: message})
	}
}

// trouble tells an error that did not come up before.
func (k *keeper) trouble(err error) {
	if err.Error() == k.told {
		return
	}
	k.told = err.Error()
	k.fleet.tell(provisioner.Event{Time: time.Now().UTC(), Kind: provisioner.EventNote, Message: "cannot keep the state directory: " + k.told})
}

// lost reports whether what was kept of the replica is gone.
func (r *replica) lost() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept && !access.Exists(r.files.Restarts())
}

// restore makes the folders of the replica again, and what the fleet keeps there. A launch keeps its own files.
func (r *replica) restore() error {
	if err := r.files.Create(); err != nil {
		return err
	}
	past := r.history()
	r.keep(past)
	switch h := r.hold(); {
	case h != nil && !h.Node:
		return holds.Place(r.files, *h)
	case h != nil:
		return holds.PlaceAll(r.files.State, *h)
	case past.Phase == report.PhaseStopped:
		r.keepStopped()
	}
	return nil
}
