package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/readers"
)

// Readers are who may read the handoffs beside this user, as the configuration says it.
type Readers struct{ Mode, Group string }

// Publish writes the handoff. From now on the replica is ready for the rest of the node.
func (f Files) Publish(handoff any, c Readers) error {
	data, err := json.MarshalIndent(handoff, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the handoff: %w", err)
	}
	who, err := f.admit(c)
	if err != nil {
		return err
	}
	return atomicfile.ReplaceFor(f.Handoff(), append(data, '\n'), who.Mode, who.GID)
}

// Admit lets the configured readers find the handoffs, before there is one.
func (f Files) Admit(c Readers) error {
	_, err := f.admit(c)
	return err
}

// admit lets the configured readers find the handoffs. The rest of the state directory stays this user's own.
func (f Files) admit(c Readers) (readers.Readers, error) {
	who, err := readers.Of(c.Mode, c.Group)
	if err == nil {
		err = errors.Join(who.Pass(f.State), who.Read(f.Handoffs()))
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return who, fmt.Errorf("cannot let others read the handoff: %w; be a member of \"handoff.group\", and the owner of the state directory", err)
	case err != nil:
		return who, fmt.Errorf("cannot let others read the handoff: %w; check \"handoff\"", err)
	}
	return who, nil
}

// HasReaders reports whether the handoff has the configured ones.
func (f Files) HasReaders(c Readers) bool {
	who, err := readers.Of(c.Mode, c.Group)
	if err != nil {
		return true // nothing better can be written
	}
	info, err := os.Lstat(f.Handoff())
	return err == nil && who.Has(info)
}

// Unpublish removes the handoff of a launch; another launch's stays. "" means whichever launch.
func (f Files) Unpublish(launchID string) error {
	var h struct {
		Process struct {
			LaunchID string `json:"launch_id"`
		} `json:"process"`
	}
	err := ReadHandoff(f.Handoff(), &h)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && launchID != "" && h.Process.LaunchID != "" && h.Process.LaunchID != launchID:
		return nil
	}
	// A handoff that cannot be read is nobody's; it goes, too.
	if err := atomicfile.Remove(f.Handoff()); err != nil {
		return fmt.Errorf("cannot remove the handoff: %w", err)
	}
	return nil
}

// ReadHandoff reads a handoff file into h. The error is fs.ErrNotExist when there is none.
func ReadHandoff(path string, h any) error {
	data, err := Read(path)
	if err != nil {
		return err
	}
	return DecodeHandoff(path, data, h)
}

// DecodeHandoff reads the content of the handoff file at path into h.
func DecodeHandoff(path string, data []byte, h any) error {
	var least struct {
		URL     string `json:"url"`
		Pool    string `json:"pool_id"`
		Replica string `json:"replica_id"`
	}
	err := json.Unmarshal(data, &least)
	if err == nil {
		err = json.Unmarshal(data, h)
	}
	if err != nil {
		return fmt.Errorf("cannot read the handoff %q: %w", path, err)
	}
	if least.URL == "" || least.Pool == "" || least.Replica == "" {
		return fmt.Errorf("cannot read the handoff %q: no url, pool_id or replica_id", path)
	}
	return nil
}
