package provisioner

import "slices"

// classify names the cause of an engine's death from the last lines of its log, and the line that tells it. The order
// of patterns decides, not that of lines: what an engine says last is rarely what went wrong first.
func classify(lines []string, patterns []CausePattern) (cause Cause, evidence string) {
	for _, p := range patterns {
		for _, line := range lines {
			if p.Pattern.MatchString(line) {
				return p.Cause, line
			}
		}
	}
	return CauseUnknown, ""
}

// ofReady are the patterns that may be true of an engine that was ready. It had its model, its flags and its libraries, so that
// words about these are of something else: a warning of its start, or what it printed of a client's wrong request, such as
// an image that could not be downloaded.
func ofReady(patterns []CausePattern) []CausePattern {
	ofStart := []Cause{CauseModelMissing, CauseModelCorrupt, CauseBadFlag, CauseLibMissing, CausePortInUse, CauseDownload}
	return slices.DeleteFunc(slices.Clone(patterns), func(p CausePattern) bool { return slices.Contains(ofStart, p.Cause) })
}

// adviceFor says what to do about a cause.
func adviceFor(cause Cause) string {
	switch cause {
	case CauseModelMissing:
		return `check that "model.id" and the files named in "flags" exist and that this user may read them`
	case CauseModelCorrupt:
		return "fetch the model again and compare its size and checksum; a newer engine may be needed for a new model"
	case CauseBadFlag:
		return `correct "flags" or "env"; the engine's --help lists what it takes`
	case CauseLibMissing:
		return "install the engine with all its libraries; a copied executable must keep those that lay beside it"
	case CauseDriver:
		return `check the driver with nvidia-smi and that the engine was built for this GPU, or set "gpu: none"`
	case CauseBuildFailed:
		return "read the log of the build"
	case CauseDownload:
		return "check the network, and HTTPS_PROXY where a proxy is needed; what has arrived is kept, and the next try continues from there"
	case CausePortInUse:
		return `free the port or change "port"; if "host" is set, it must be an address of this machine`
	case CauseOOMGPU:
		return "free GPU memory, or use a smaller model or a smaller context"
	case CauseOOMHost:
		return "free memory, or use a smaller model or a smaller context"
	case CauseCannotAnswer:
		return `read the log; if the model is not meant to complete text, set "ready: {answer: off}"`
	}
	return "read the log"
}

// retryable reports whether trying again unchanged can help.
func retryable(cause Cause) bool {
	switch cause {
	case CauseModelMissing, CauseModelCorrupt, CauseBadFlag, CauseLibMissing, CauseDriver, CauseBuildFailed:
		return false
	}
	return true
}
