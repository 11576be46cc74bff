package enginetest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// series is one line of the metrics page.
type series struct{ name, kind, help string }

// llamaSeries is what llama-server exports, in its order.
var llamaSeries = []series{
	{"prompt_tokens_total", "counter", "Number of prompt tokens processed."},
	{"prompt_seconds_total", "counter", "Prompt process time"},
	{"tokens_predicted_total", "counter", "Number of generation tokens processed."},
	{"tokens_predicted_seconds_total", "counter", "Predict process time"},
	{"n_decode_total", "counter", "Total number of llama_decode() calls"},
	{"n_tokens_max", "counter", "Largest observed n_tokens."},
	{"n_busy_slots_per_decode", "counter", "Average number of busy slots per llama_decode() call"},
	{"prompt_tokens_seconds", "gauge", "Average prompt throughput in tokens/s."},
	{"predicted_tokens_seconds", "gauge", "Average generation throughput in tokens/s."},
	{"requests_processing", "gauge", "Number of requests processing."},
	{"requests_deferred", "gauge", "Number of requests deferred."},
}

func (e *engine) metrics(w http.ResponseWriter, _ *http.Request) {
	switch {
	case !e.opts.metrics || e.b.Metrics == MetricsOff:
		fail(w, http.StatusNotImplemented, "not_supported_error",
			"This server does not support metrics endpoint. Start it with `--metrics`")
		return
	case e.b.Metrics == MetricsNotFound:
		fail(w, http.StatusNotFound, "not_found_error", "File Not Found")
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	w.Header().Set("Server", "llama.cpp")
	w.Header().Set("Process-Start-Time-Unix", strconv.FormatInt(e.began.Unix(), 10))
	switch e.b.Metrics {
	case MetricsMalformed:
		_, _ = io.WriteString(w, "llamacpp:requests_processing{ zero\n")
	case MetricsHuge:
		_, _ = io.WriteString(w, e.page(true))
		for i, err := 0, error(nil); err == nil; i++ {
			_, err = fmt.Fprintf(w, "llamacpp:filler_%d 0\n", i)
		}
	default:
		_, _ = io.WriteString(w, e.page(e.b.Metrics != MetricsMissingSeries))
	}
}

// page is the metrics in Prometheus' text format, with or without the gauges of requests.
func (e *engine) page(requests bool) string {
	var b strings.Builder
	for _, s := range llamaSeries {
		value := 0
		switch s.name {
		case "requests_processing":
			value = e.running()
		case "requests_deferred":
			value = max(0, int(e.inFlight.Load())-e.opts.slots)
		}
		if strings.HasPrefix(s.name, "requests_") && !requests {
			continue
		}
		fmt.Fprintf(&b, "# HELP llamacpp:%[1]s %[2]s\n# TYPE llamacpp:%[1]s %[3]s\nllamacpp:%[1]s %[4]d\n",
			s.name, s.help, s.kind, value)
	}
	return b.String()
}
