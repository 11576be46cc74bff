package provisioner

import (
	"fmt"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// ReplicaID names a replica. Its zero value names none.
type ReplicaID struct {
	Pool    string `json:"pool"`
	Replica string `json:"replica"`
}

// ParseReplicaID reads what String writes, such as "chat/r0".
func ParseReplicaID(name string) (ReplicaID, error) {
	pool, replica, _ := strings.Cut(name, "/")
	if !config.IsID(pool) || !config.IsID(replica) {
		return ReplicaID{}, fmt.Errorf("%q names no replica; write its pool and itself, such as chat/r0", name)
	}
	return ReplicaID{pool, replica}, nil
}

// String returns the name for people, such as "chat/r0".
func (id ReplicaID) String() string { return id.Pool + "/" + id.Replica }

// stem is the replica's part in the names of its files.
func (id ReplicaID) stem() string { return state.Stem(id.Pool, id.Replica) }
