package provisioner

import "time"

// HandoffSchema is the version of the handoff file's additions to its eight first keys.
const HandoffSchema = 1

// Handoff tells an orchestrator where a ready replica is. It is the content of <state>/engines/<pool>-<replica>.json,
// a file that exists exactly while the replica is ready.
type Handoff struct {
	Engine           string       `json:"engine"`
	EngineVersion    string       `json:"engine_version"`
	ProvisioningMode string       `json:"provisioning_mode"`
	URL              string       `json:"url"` // such as "http://127.0.0.1:8081"
	PoolID           string       `json:"pool_id"`
	ReplicaID        string       `json:"replica_id"`
	Model            HandoffModel `json:"model"`
	Flags            []string     `json:"flags"` // the engine's argv without the executable

	Schema     int             `json:"schema"`
	Generation int64           `json:"generation"` // grows with each launch of the replica
	Process    *HandoffProcess `json:"process,omitempty"`
	Devices    []string        `json:"devices,omitempty"` // UUIDs of the GPUs in use
	Auth       *SecretRef      `json:"auth,omitempty"`    // where the API key is to be found; never the key
	ReadyAt    time.Time       `json:"ready_at"`
	Answer     string          `json:"answer"` // "ok", "not_offered" or "off": what the answer proof found
}

// HandoffModel is the model of a handoff.
type HandoffModel struct {
	ID   string `json:"id"`   // the reference, as configured
	Path string `json:"path"` // the file that is served
}

// HandoffProcess identifies the engine's process; pid alone does not, since pids are used again.
type HandoffProcess struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks,string"` // field 22 of /proc/<pid>/stat
	BootID     string `json:"boot_id"`
	LaunchID   string `json:"launch_id"`
}
