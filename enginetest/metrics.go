package enginetest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// sample is one series of a metrics page.
type sample struct {
	name, kind, help string
	labels           string // as they stand between the braces
	value            int
	requests         bool // counts requests in flight
}

// serveMetrics answers with the samples, and goes wrong where the behaviour wants it.
func (e *engine) serveMetrics(w http.ResponseWriter, samples []sample) {
	if e.b.Metrics == MetricsNotFound {
		e.profile.fail(w, http.StatusNotFound, "not_found_error", "File Not Found")
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	w.Header().Set("Process-Start-Time-Unix", strconv.FormatInt(e.began.Unix(), 10))
	name := samples[0].name
	switch e.b.Metrics {
	case MetricsMalformed:
		_, _ = io.WriteString(w, name+"{ zero\n")
	case MetricsHuge:
		_, _ = io.WriteString(w, page(samples, true))
		for i, err := 0, error(nil); err == nil; i++ {
			_, err = fmt.Fprintf(w, "%s_filler_%d 0\n", name, i)
		}
	default:
		_, _ = io.WriteString(w, page(samples, e.b.Metrics != MetricsMissingSeries))
	}
}

// page is the samples in Prometheus' text format, with or without those that count requests in flight.
func page(samples []sample, requests bool) string {
	var b strings.Builder
	for _, s := range samples {
		if s.requests && !requests {
			continue
		}
		labels := ""
		if s.labels != "" {
			labels = "{" + s.labels + "}"
		}
		fmt.Fprintf(&b, "# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n%[1]s%[4]s %[5]d\n", s.name, s.help, s.kind, labels, s.value)
	}
	return b.String()
}
