package diagnosis

import "github.com/llama-orch/engine-provisioner/engine"

// AdviceExecutable is about a file that the kernel cannot run.
const AdviceExecutable = `install a build for this machine, or name another executable in "provisioning.binary.path"`

// Advice says what to do about a cause.
func Advice(cause engine.Cause) string {
	switch cause {
	case engine.CauseModelMissing:
		return `check that "model.id" and the files named in "flags" exist and that this user may read them`
	case engine.CauseModelCorrupt:
		return "fetch the model again and compare its size and checksum; a newer engine may be needed for a new model"
	case engine.CauseBadFlag:
		return `correct "flags" or "env"; the engine's --help lists what it takes`
	case engine.CauseLibMissing:
		return "install the engine with all its libraries; a copied executable must keep those that lay beside it"
	case engine.CauseDriver:
		return `check that "doctor" shows the GPU and that the engine was built for it, or set "gpu: none"`
	case engine.CauseBuildFailed:
		return "read the log of the build"
	case engine.CauseDownload:
		return "check the network, and HTTPS_PROXY where a proxy is needed; what has arrived is kept, and the next try continues from there"
	case engine.CauseBadAddress:
		return `set "host" to an address of this machine, or to 0.0.0.0 for all`
	case engine.CausePortForbidden:
		return `change "port", or give this user the right to listen there`
	case engine.CauseUnauthorized:
		return `give the engine its key by "api_key" alone: no other one in "flags", "env" or a file of keys`
	case engine.CausePortInUse:
		return `free the port or change "port"`
	case engine.CausePeerLost:
		return "check that its worker runs, and that its address can be reached from here; it is tried again until then"
	case engine.CauseOOMGPU:
		return "free GPU memory, or use a smaller model or a smaller context"
	case engine.CauseOOMHost:
		return "free memory, or use a smaller model or a smaller context"
	case engine.CauseCannotAnswer:
		return `read the log; if the model is not meant to complete text, set "ready: {answer: off}"`
	}
	return "read the log"
}

// Retryable reports whether trying again unchanged can help.
func Retryable(cause engine.Cause) bool {
	switch cause {
	case engine.CauseModelMissing, engine.CauseModelCorrupt, engine.CauseBadFlag, engine.CauseLibMissing, engine.CauseDriver, engine.CauseBuildFailed,
		engine.CauseBadAddress, engine.CausePortForbidden, engine.CauseUnauthorized:
		return false
	}
	return true
}
