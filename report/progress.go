package report

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/bytesize"
)

// Progress is how far one step of a preparation is: of a download, or of a build.
type Progress struct {
	Step      Step    `json:"step"`
	What      string  `json:"what"`                // such as "llama-server" or "chat.gguf"
	Done      int64   `json:"done"`                // bytes of a download; else parts, or percent of 100
	Total     int64   `json:"total,omitempty"`     // 0 where it is not known
	Rate      float64 `json:"rate,omitempty"`      // of a download: bytes a second of late
	Remaining float64 `json:"remaining,omitempty"` // seconds; 0 where that cannot be told
	Waiting   bool    `json:"waiting,omitempty"`   // another process does it, and this one waits for it
	Holder    string  `json:"holder,omitempty"`    // for people: whom it waits for, such as "pid 4711 (since 2026-11-24 13:04:05)"; "" where that is not known
}

// Step says what is done in a preparation.
type Step string

// The steps.
const (
	StepDownload  Step = "download"  // a file, in bytes
	StepUnpack    Step = "unpack"    // an archive
	StepFetch     Step = "fetch"     // a source tree
	StepConfigure Step = "configure" // a build
	StepBuild     Step = "build"     // an executable
	StepResolve   Step = "resolve"   // which versions of a package and of what it needs are to be installed
	StepInstall   Step = "install"   // a package with all that it needs
	StepLoad      Step = "load"      // a model, by the engine, in bytes; told by a status alone
	StepWait      Step = "wait"      // for What, a replica that it needs, of which Holder says where it stands
)

var stepWords = map[Step]string{
	StepDownload: "downloading", StepUnpack: "unpacking", StepFetch: "fetching", StepConfigure: "configuring",
	StepBuild: "building", StepResolve: "resolving", StepInstall: "installing", StepLoad: "loading",
}

func (p Progress) inBytes() bool { return p.Step == StepDownload || p.Step == StepLoad }

// String returns a text for people, such as "downloading chat.gguf: 1.2 GB of 4.7 GB, 85 MB/s, 41s left".
func (p Progress) String() string {
	if p.Step == StepWait {
		return fmt.Sprintf("waiting for %s, which it needs (%s)", p.What, p.Holder)
	}
	words := stepWords[p.Step]
	if p.Waiting {
		return "waiting for " + cmp.Or(p.Holder, "another process") + " that is " + words + " " + p.What
	}
	number := func(n int64) string { return fmt.Sprint(n) }
	if p.inBytes() {
		number = bytesize.Decimal
	}
	var parts []string
	switch {
	case p.Total == 100 && !p.inBytes():
		parts = append(parts, fmt.Sprintf("%d %%", p.Done))
	case p.Total > 0:
		parts = append(parts, number(p.Done)+" of "+number(p.Total))
	case p.Done > 0:
		parts = append(parts, number(p.Done))
	}
	if p.Rate > 0 {
		parts = append(parts, number(int64(p.Rate))+"/s")
	}
	if left := time.Duration(p.Remaining * float64(time.Second)).Round(time.Second); left > 0 {
		parts = append(parts, left.String()+" left")
	}
	if len(parts) == 0 {
		return words + " " + p.What
	}
	return words + " " + p.What + ": " + strings.Join(parts, ", ")
}
