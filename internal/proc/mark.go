package proc

import (
	"crypto/rand"
	"encoding/hex"
)

// MarkEnv is the variable that marks every process of a launch, however far it wanders from its parent: the tree is found
// by it.
const MarkEnv = "ENGINE_PROVISIONER_LAUNCH_ID"

// NewMark is a mark that nobody else has.
func NewMark() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
