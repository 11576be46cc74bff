package enginetest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/exposition"
)

const (
	loadingBody = `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`
	badKeyBody  = `{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}`
	noMetrics   = "{\"error\":{\"message\":\"This server does not support metrics endpoint. Start it with `--metrics`\"," +
		"\"type\":\"not_supported_error\",\"code\":501}}"
)

func TestRoutes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		behavior Behavior
		args     []string
		method   string
		path     string
		body     string
		want     int
		holds    string // part of the body
	}{
		{name: "health", path: "/health", want: 200, holds: `{"status":"ok"}`},
		{name: "health v1", path: "/v1/health", want: 200, holds: `{"status":"ok"}`},
		{name: "unknown", path: "/version", want: 404, holds: `"File Not Found"`},
		{name: "props", path: "/props", want: 200, holds: `"build_info":"b11669-Fake"`},
		{name: "props model", path: "/props", want: 200, holds: `"model_path":"/models/m.gguf"`},
		{name: "props alias", args: []string{"-a", "x,y"}, path: "/props", want: 200, holds: `"model_alias":"x"`},
		{name: "props slots", path: "/props", args: []string{"--parallel", "3"}, want: 200, holds: `"total_slots":3`},
		{name: "wrong model", behavior: Behavior{PropsModel: "/other"}, path: "/props", want: 200, holds: `"/other"`},
		{name: "wrong build", behavior: Behavior{PropsBuild: "b1-Old"}, path: "/props", want: 200, holds: `"b1-Old"`},
		{name: "models", path: "/v1/models", want: 200, holds: `"id":"m.gguf"`},
		{name: "slots", path: "/slots", want: 200, holds: `"is_processing":false`},
		{name: "no slots", args: []string{"--no-slots"}, path: "/slots", want: 501, holds: "--slots"},
		{name: "no metrics", path: "/metrics", want: 501, holds: noMetrics},
		{
			name: "metrics off", behavior: Behavior{Metrics: MetricsOff}, args: []string{"--metrics"}, path: "/metrics",
			want: 501, holds: noMetrics,
		},
		{
			name: "metrics not found", behavior: Behavior{Metrics: MetricsNotFound}, args: []string{"--metrics"},
			path: "/metrics", want: 404,
		},
		{name: "completion", method: "POST", path: "/completion", body: `{}`, want: 200, holds: sentence},
		{name: "one token", method: "POST", path: "/completion", body: `{"n_predict":1}`, want: 200, holds: `"content":"This"`},
		{
			name: "openai", method: "POST", path: "/v1/completions", body: `{"max_tokens":2}`, want: 200,
			holds: `"finish_reason":"length","index":0,"text":"This is"`,
		},
		{name: "chat", method: "POST", path: "/v1/chat/completions", body: `{}`, want: 200, holds: `"role":"assistant"`},
		{name: "not JSON", method: "POST", path: "/completion", body: `{`, want: 400},
		{
			name: "answer 500", behavior: Behavior{AnswerStatus: 500}, method: "POST", path: "/completion", body: `{}`,
			want: 500, holds: "server_error",
		},
		{
			name: "answer 400", behavior: Behavior{AnswerStatus: 400}, method: "POST", path: "/completion", body: `{}`,
			want: 400, holds: "invalid_request_error",
		},
		{
			name: "answer cut", behavior: Behavior{Answer: AnswerCut}, method: "POST", path: "/completion", body: `{}`,
			want: 0, holds: "unexpected EOF",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, tc.behavior, tc.args...).waitReady(t)
			code, body := p.do(orElse(tc.method, http.MethodGet), tc.path, tc.body)
			if code != tc.want || !strings.Contains(body, tc.holds) {
				t.Errorf("got %d %s, want %d with %s", code, body, tc.want, tc.holds)
			}
		})
	}
}

func TestLoading(t *testing.T) {
	t.Parallel()
	p := start(t, Behavior{LoadTime: time.Hour, StallLog: time.Millisecond}).waitBound(t)
	for _, path := range []string{"/health", "/props", "/nothing"} {
		if code, body := p.get(path); code != 503 || body != loadingBody {
			t.Errorf("%s: got %d %s, want 503 %s", path, code, body, loadingBody)
		}
	}
	p.eventually(t, "progress", func() bool { return strings.Count(p.log.String(), " %") > 2 })
}

func TestLoadTime(t *testing.T) {
	t.Parallel()
	const load = 300 * time.Millisecond
	began := time.Now()
	start(t, Behavior{LoadTime: load}).waitReady(t)
	if took := time.Since(began); took < load {
		t.Errorf("ready after %v, want at least %v", took, load)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	p := startEnv(t, Behavior{LogSecret: true}, []string{"LLAMA_API_KEY=canary"}).waitReady(t)
	if code, body := p.get("/props"); code != 401 || body != badKeyBody {
		t.Errorf("without a key: got %d %s", code, body)
	}
	for _, header := range [][]string{{"Authorization", "Bearer canary"}, {"X-Api-Key", "canary"}} {
		if code, body := p.get("/props", header...); code != 200 {
			t.Errorf("with %s: got %d %s", header[0], code, body)
		}
	}
	if !strings.Contains(p.log.String(), "canary") {
		t.Errorf("LogSecret: the key is not in the log")
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mode       Metrics
		valid, has bool
	}{
		{"", true, true},
		{MetricsMissingSeries, true, false},
		{MetricsMalformed, false, false},
	} {
		t.Run(string(tc.mode), func(t *testing.T) {
			t.Parallel()
			p := start(t, Behavior{Metrics: tc.mode}, "--metrics").waitReady(t)
			code, body := p.get("/metrics")
			sums, err := exposition.Sums([]byte(body))
			if code != 200 || (err == nil) != tc.valid {
				t.Fatalf("got %d, parsed with %v:\n%s", code, err, body)
			}
			if _, has := sums["llamacpp:requests_processing"]; has != tc.has {
				t.Errorf("requests_processing is there: %v, want %v", has, tc.has)
			}
		})
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	p := start(t, Behavior{Answer: AnswerHang}, "--metrics", "--parallel", "1").waitReady(t)
	for range 2 {
		go p.do(http.MethodPost, "/completion", "{}")
	}
	p.eventually(t, "one running and one waiting request", func() bool {
		_, body := p.get("/metrics")
		return strings.Contains(body, "\nllamacpp:requests_processing 1\n") &&
			strings.Contains(body, "\nllamacpp:requests_deferred 1\n")
	})
	var slots []struct {
		Processing bool `json:"is_processing"`
	}
	_, body := p.get("/slots")
	if err := json.Unmarshal([]byte(body), &slots); err != nil || len(slots) != 1 || !slots[0].Processing {
		t.Errorf("slots: %v %s", err, body)
	}
	if code, _ := p.get("/slots?fail_on_no_slot=1"); code != 503 {
		t.Errorf("fail_on_no_slot: got %d, want 503", code)
	}
}

// Benchmarks of whoever starts engines take the engine's own share from its report.
func TestReportTimes(t *testing.T) {
	t.Parallel()
	const busy = 20 * time.Millisecond
	p := start(t, Behavior{BusyRequests: busy})
	p.waitReady(t)
	seen := time.Now()
	before := Inspect(t, p.url)
	if before.ReadyAt.IsZero() || before.ReadyAt.After(seen) || before.FirstAnswer != 0 {
		t.Errorf("ready at %v, seen ready at %v, first answer took %v before it was asked for", before.ReadyAt, seen, before.FirstAnswer)
	}
	for range 2 {
		p.do(http.MethodPost, "/completion", "{}")
	}
	after := Inspect(t, p.url)
	if after.FirstAnswer < busy || !after.ReadyAt.Equal(before.ReadyAt) {
		t.Errorf("ready at %v, first answer took %v, want %v and at least %v", after.ReadyAt, after.FirstAnswer, before.ReadyAt, busy)
	}
}
