package provisioner

import (
	"slices"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/lastwords"
)

// finding is what a log says of the end of an engine.
type finding struct {
	cause    engine.Cause
	evidence string // see Failure.Evidence
	advice   string // of the pattern that was found; "" when it has none
}

// find reads from the last lines of a log why its engine ended. The last block of errors is asked first: a warning of
// long ago is no cause.
func findCause(lines []string, patterns []engine.CausePattern, block lastwords.Block) finding {
	by, line := classify(block.Lines, patterns)
	if by == nil {
		if by, line = classify(lines, patterns); by == nil {
			return finding{engine.CauseUnknown, block.First, ""}
		}
		return finding{by.Cause, line, by.Advice}
	}
	f := finding{by.Cause, lastwords.Text(line), by.Advice}
	if block.First != "" && block.First != f.evidence {
		f.evidence = block.First + " … " + f.evidence // what went wrong, and what with
	}
	return f
}

// classify finds the pattern that tells the cause, and the line that it found. The order of patterns decides, not that of
// lines: what an engine says last is rarely what went wrong first.
func classify(lines []string, patterns []engine.CausePattern) (by *engine.CausePattern, line string) {
	for i, p := range patterns {
		for _, line := range lines {
			if p.Pattern.MatchString(line) {
				return &patterns[i], line
			}
		}
	}
	return nil, ""
}

// ofReady are the patterns that may be true of an engine that was ready. It had its model, its flags and its libraries, so that
// words about these are of something else: a warning of its start, or what it printed of a client's wrong request, such as
// an image that could not be downloaded.
func ofReady(patterns []engine.CausePattern) []engine.CausePattern {
	ofStart := []engine.Cause{engine.CauseModelMissing, engine.CauseModelCorrupt, engine.CauseBadFlag, engine.CauseLibMissing, engine.CausePortInUse, engine.CauseDownload}
	return slices.DeleteFunc(slices.Clone(patterns), func(p engine.CausePattern) bool { return slices.Contains(ofStart, p.Cause) })
}
