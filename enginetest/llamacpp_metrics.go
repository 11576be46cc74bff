package enginetest

import "net/http"

func (e *engine) llamaMetrics(w http.ResponseWriter, _ *http.Request) {
	if !e.opts.metrics || e.b.Metrics == MetricsOff {
		e.profile.fail(w, http.StatusNotImplemented, "not_supported_error",
			"This server does not support metrics endpoint. Start it with `--metrics`")
		return
	}
	// What llama-server exports, in its order.
	e.serveMetrics(w, []sample{
		{name: "llamacpp:prompt_tokens_total", kind: "counter", help: "Number of prompt tokens processed."},
		{name: "llamacpp:prompt_seconds_total", kind: "counter", help: "Prompt process time"},
		{name: "llamacpp:tokens_predicted_total", kind: "counter", help: "Number of generation tokens processed.", value: int(e.tokens.Load())},
		{name: "llamacpp:tokens_predicted_seconds_total", kind: "counter", help: "Predict process time"},
		{name: "llamacpp:n_decode_total", kind: "counter", help: "Total number of llama_decode() calls", value: e.steps()},
		{name: "llamacpp:n_tokens_max", kind: "counter", help: "Largest observed n_tokens."},
		{name: "llamacpp:n_busy_slots_per_decode", kind: "counter", help: "Average number of busy slots per llama_decode() call"},
		{name: "llamacpp:prompt_tokens_seconds", kind: "gauge", help: "Average prompt throughput in tokens/s."},
		{name: "llamacpp:predicted_tokens_seconds", kind: "gauge", help: "Average generation throughput in tokens/s."},
		{
			name: "llamacpp:requests_processing", kind: "gauge", help: "Number of requests processing.",
			value: e.running(), requests: true,
		},
		{
			name: "llamacpp:requests_deferred", kind: "gauge", help: "Number of requests deferred.",
			value: e.waiting(), requests: true,
		},
	})
}
