package settings

import "time"

// Drain says what happens between the removal of a ready replica's handoff and its SIGTERM: the hooks run, one
// after the other, and then the requests in flight are waited for. A replica that was never ready is not drained.
type Drain struct {
	// Timeout bounds the whole drain, hooks included. "0s" leaves the drain out (in Go: a pointer to 0). Left out, it is
	// 30 seconds.
	Timeout *Duration `json:"timeout,omitempty" validate:"omitempty,min=0"`
	// Hooks run first, in this order, after those of WithDrainHook.
	Hooks []DrainHook `json:"hooks,omitempty" validate:"max=16,dive"`
}

// WithDefaults fills in what was left out.
func (c Drain) WithDefaults() Drain {
	if c.Timeout == nil {
		c.Timeout = new(Duration(30 * time.Second))
	}
	return c
}

// DrainHook is something to do before requests in flight are waited for, such as taking the replica out of a router.
// Exactly one of HTTP and Command is set.
type DrainHook struct {
	// HTTP is a request to make. Any answer but a 2xx is a failure; redirects are not followed.
	HTTP *HTTPHook `json:"http,omitempty"`
	// Command is a program with its arguments, run without a shell in the file's folder (in Go: in Dir). It gets the
	// allowlist of the engine's environment and ENGINE_PROVISIONER_POOL, _REPLICA, _URL, _PID and _HANDOFF (the
	// handoff's JSON). Any status but 0 is a failure. Its process group is killed when it has ended or its time is over.
	Command []string `json:"command,omitempty"`
	// Timeout bounds the hook. Left out, it is 10 seconds. The drain's own timeout bounds it, too.
	Timeout Duration `json:"timeout,omitempty" validate:"min=0"`
	// OnFailure is "continue" or "abort". With "continue" a failure is noted and the drain goes on. With "abort" the rest
	// of the drain is left out, the engine is stopped at once, and Stop's error is ErrDrainAborted. Left out, it is
	// "continue".
	OnFailure string `json:"on_failure,omitempty" validate:"omitempty,oneof=continue abort"`
}

// HTTPHook is a request that a drain makes.
type HTTPHook struct {
	// URL is the address. {pool}, {replica}, {url} and {port} stand for those of the replica; {url} is escaped unless the
	// address begins with it.
	URL string `json:"url" validate:"required"`
	// Method is "GET", "POST", "PUT", "PATCH" or "DELETE". Left out, it is "POST".
	Method string `json:"method,omitempty" validate:"omitempty,oneof=GET POST PUT PATCH DELETE"`
	// Body is the request's body, with the placeholders of URL.
	Body string `json:"body,omitempty"`
	// Headers are added to the request: text, or a reference for what is secret.
	Headers map[string]EnvValue `json:"headers,omitempty"`
}

// Stop says how a replica is stopped.
type Stop struct {
	// Grace is the time between SIGTERM and SIGKILL. Left out, it is the engine's own default: 5 seconds for llamacpp and
	// custom, 15 for vllm and 30 for sglang, each with the time for what is in flight, 185 for tgi.
	Grace Duration `json:"grace,omitempty" validate:"min=0"`
	// Settle is how long a ready replica still serves once its handoff is gone, whatever it has to do: routers that learn of that with a
	// delay, such as those of a cluster, send it requests until then. It is part of the drain, whose timeout bounds it. Left out, an
	// idle replica is stopped at once.
	Settle Duration `json:"settle,omitempty" validate:"min=0"`
}

// Handoff says who may read the handoff file, and where other nodes find a copy of it. What is given of the first allows reading it and finding it: of the state directory,
// the folder of the handoffs can be listed, and nothing else. Its zero value allows nobody.
type Handoff struct {
	// Mode is the mode of the file: "0640" lets its group read it, "0644" every user of the machine, "0600" nobody else. Left out,
	// it is "0640" with a group, and "0600" without.
	Mode FileMode `json:"mode,omitempty"`
	// Group is the group of the file, by name or number; the user that this runs as must be in it, or be root. Left out, it is
	// that user's own. Pools that share a state directory have the same one.
	Group Group `json:"group,omitempty"`
	// Dir is a folder that nodes share, such as one of NFS: a copy of the handoff is kept there, in a file with the node's name
	// ("<node>.<pool>-<replica>.json"), and bears a lease. It must be there; a relative path is relative to the file's folder (in
	// Go: to Dir). Left out, there is no copy.
	Dir string `json:"dir,omitempty"`
	// TTL is how long a lease holds that nobody renews, from 3s to 24h. Left out, it is 30 s: so long a node may be silent
	// until readers take its replicas for gone.
	TTL Duration `json:"ttl,omitempty"`
}
