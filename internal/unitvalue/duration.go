package unitvalue

import (
	"strconv"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

var durationPart = lazyregexp.New(`^\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)`)

// units of systemd and of Go, in the spellings that people use.
var durationUnits = map[string]time.Duration{
	"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"ms": time.Millisecond, "msec": time.Millisecond, "us": time.Microsecond, "usec": time.Microsecond,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
}

// Duration reads "90", "1min 30s", "1m30s" and the like.
func Duration(text string) (time.Duration, bool) {
	var total time.Duration
	if strings.TrimSpace(text) == "" {
		return 0, false
	}
	for text != "" {
		m := durationPart.FindStringSubmatch(text)
		if m == nil {
			return 0, strings.TrimSpace(text) == "" && total > 0
		}
		n, err := strconv.ParseFloat(m[1], 64)
		unit, known := durationUnits[m[2]]
		if err != nil || !known || n > 1e6 {
			return 0, false
		}
		total += time.Duration(n * float64(unit))
		text = text[len(m[0]):]
	}
	return total, true
}
