package diagnosis

import (
	"slices"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/lastwords"
)

// Finding is why an engine ended, as far as that can be told.
type Finding struct {
	Cause    engine.Cause
	Evidence string // what tells the cause: the first error of its end, and the line that names the cause; "" for nothing
	Advice   string // what to do; "" for the general advice on the cause
	Retry    bool   // whether trying again unchanged can help
}

// Find reads from the last lines of a log why its engine ended. The last block of errors is asked first: a warning of
// long ago is no cause.
func Find(lines []string, patterns []engine.CausePattern, block lastwords.Block) Finding {
	by, line := classify(block.Lines, patterns)
	if by == nil {
		if by, line = classify(lines, patterns); by == nil {
			return found(engine.CauseUnknown, block.First, "")
		}
		return found(by.Cause, line, by.Advice)
	}
	f := found(by.Cause, lastwords.Text(line), by.Advice)
	if block.First != "" && block.First != f.Evidence {
		f.Evidence = block.First + " … " + f.Evidence // what went wrong, and what with
	}
	return f
}

func found(cause engine.Cause, evidence, advice string) Finding {
	return Finding{Cause: cause, Evidence: evidence, Advice: advice, Retry: Retryable(cause)}
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

// OfReady are the patterns that may be true of an engine that was ready. It had its model, its flags and its libraries, so that
// words about these are of something else: a warning of its start, or what it printed of a client's wrong request, such as
// an image that could not be downloaded.
func OfReady(patterns []engine.CausePattern) []engine.CausePattern {
	ofStart := []engine.Cause{engine.CauseModelMissing, engine.CauseModelCorrupt, engine.CauseBadFlag, engine.CauseLibMissing, engine.CausePortInUse, engine.CauseDownload}
	return slices.DeleteFunc(slices.Clone(patterns), func(p engine.CausePattern) bool { return slices.Contains(ofStart, p.Cause) })
}
