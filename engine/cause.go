package engine

import "regexp"

// Cause says why an engine could not be started or died. It is stable, for programs.
type Cause string

// The causes. Those of the first group cannot be cured by trying again.
const (
	CauseModelMissing  Cause = "model_missing"  // the model file is not there or cannot be read
	CauseModelCorrupt  Cause = "model_corrupt"  // the file is no model, or damaged, or cut short
	CauseBadFlag       Cause = "bad_flag"       // the engine refused a flag or its value
	CauseLibMissing    Cause = "lib_missing"    // the executable or a shared library is missing or cannot be run
	CauseDriver        Cause = "driver"         // no usable GPU or driver
	CauseBuildFailed   Cause = "build_failed"   // the engine could not be built or installed
	CauseBadAddress    Cause = "bad_address"    // "host" is no address of this machine
	CausePortForbidden Cause = "port_forbidden" // this user may not listen on the port
	CauseUnauthorized  Cause = "unauthorized"   // the engine refuses the API key, or asks for one that is not configured

	CausePortInUse    Cause = "port_in_use"   // something else has the port
	CauseDownload     Cause = "download"      // what had to be downloaded did not come, or did not fit on the disk
	CausePeerLost     Cause = "peer_lost"     // another machine that the engine computes on is not there, or went away
	CauseOOMGPU       Cause = "oom_gpu"       // out of GPU memory
	CauseOOMHost      Cause = "oom_host"      // out of memory
	CauseCannotAnswer Cause = "cannot_answer" // healthy by its own word, but it cannot produce a token
	CauseUnknown      Cause = "unknown"       // none of the known
)

// CausePattern ties the words of a dying engine to a cause.
type CausePattern struct {
	Cause   Cause          `json:"cause"`
	Pattern *regexp.Regexp `json:"pattern"` // matched against each line of the log's end
	// Advice is what to do where these words are found; "" leaves it to the LaunchSpec's Advice on the cause.
	Advice string `json:"advice,omitempty"`
}
