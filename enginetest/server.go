package enginetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"
)

// sentence is what the fake answers to everything, one token a word.
const sentence = "This is a fake engine: it always says the same words."

// object is a JSON object.
type object = map[string]any

// routes answers as llama-server does.
func (e *engine) routes() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"GET /health", "GET /v1/health"} {
		mux.HandleFunc(path, e.health)
	}
	mux.HandleFunc("GET /props", e.props)
	mux.HandleFunc("GET /metrics", e.metrics)
	mux.HandleFunc("GET /slots", e.slots)
	for _, path := range []string{"GET /models", "GET /v1/models"} {
		mux.HandleFunc(path, e.models)
	}
	for _, path := range []string{"POST /completion", "POST /completions"} {
		mux.HandleFunc(path, e.answering(e.completion))
	}
	mux.HandleFunc("POST /v1/completions", e.answering(e.openAICompletion))
	for _, path := range []string{"POST /v1/chat/completions", "POST /chat/completions"} {
		mux.HandleFunc(path, e.answering(e.chatCompletion))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, "not_found_error", "File Not Found")
	})
	return e.guard(mux)
}

// guard checks what comes before every route, in the real engine's order: first the state, then the key.
func (e *engine) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		health := r.URL.Path == "/health" || r.URL.Path == "/v1/health"
		switch {
		case r.URL.Path == reportPath && r.Method == http.MethodPost:
			e.obey(w, r)
		case r.URL.Path == reportPath:
			reply(w, http.StatusOK, e.report())
		case health && e.hung.Load():
			<-r.Context().Done()
		case health && e.misbehave(w, r):
		case !e.ready.Load():
			fail(w, http.StatusServiceUnavailable, "unavailable_error", "Loading model")
		case !health && !e.authorized(r):
			fail(w, http.StatusUnauthorized, "authentication_error", "Invalid API Key")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (e *engine) authorized(r *http.Request) bool {
	key := cmp.Or(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), r.Header.Get("X-Api-Key"))
	return len(e.opts.keys) == 0 || slices.Contains(e.opts.keys, key)
}

func (e *engine) health(w http.ResponseWriter, _ *http.Request) {
	if code := e.b.HealthStatus; code != 0 && code != http.StatusOK {
		fail(w, code, "server_error", "told to fail")
		return
	}
	reply(w, http.StatusOK, object{"status": "ok"})
}

func (e *engine) props(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, object{
		"total_slots":      e.opts.slots,
		"model_alias":      e.opts.alias,
		"model_path":       orElse(e.b.PropsModel, e.opts.model),
		"modalities":       object{"vision": false, "audio": false},
		"endpoint_slots":   e.opts.slotsRoute,
		"endpoint_props":   false,
		"endpoint_metrics": e.opts.metrics,
		"build_info":       e.build(),
		"is_sleeping":      false,
	})
}

func (e *engine) build() string { return orElse(e.b.PropsBuild, "b11669-Fake") }

func (e *engine) models(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, object{"object": "list", "data": []object{{
		"id": e.opts.alias, "object": "model", "created": e.began.Unix(), "owned_by": "llamacpp",
		"meta": object{"n_ctx_train": 2048, "n_params": 0, "size": 0},
	}}})
}

func (e *engine) slots(w http.ResponseWriter, r *http.Request) {
	if !e.opts.slotsRoute {
		fail(w, http.StatusNotImplemented, "not_supported_error",
			"This server does not support slots endpoint. Start it with `--slots`")
		return
	}
	running := e.running()
	if r.URL.Query().Get("fail_on_no_slot") == "1" && running == e.opts.slots {
		fail(w, http.StatusServiceUnavailable, "unavailable_error", "no slot available")
		return
	}
	all := make([]object, e.opts.slots)
	for i := range all {
		all[i] = object{"id": i, "n_ctx": 2048, "speculative": false, "is_processing": i < running}
	}
	reply(w, http.StatusOK, all)
}

// running is how many requests have a slot; the others wait.
func (e *engine) running() int { return min(int(e.inFlight.Load()), e.opts.slots) }

// answering wraps a completion route with the ways in which answers go wrong.
func (e *engine) answering(next func(w http.ResponseWriter, words int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer e.answered(time.Now())
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var limits struct {
			Predict   *int `json:"n_predict"`
			MaxTokens *int `json:"max_tokens"`
		}
		if err := json.Unmarshal(body, &limits); err != nil {
			fail(w, http.StatusBadRequest, "invalid_request_error", "cannot parse the request: "+err.Error())
			return
		}
		e.busy.RLock()
		defer e.busy.RUnlock()
		e.inFlight.Add(1)
		defer e.inFlight.Add(-1)
		var done <-chan time.Time
		if e.b.Answer != AnswerHang {
			done = time.After(e.b.BusyRequests)
		}
		select {
		case <-done:
		case <-r.Context().Done():
			return
		case <-e.stopping: // neither data nor an end of the connection
			<-r.Context().Done()
			return
		}
		switch {
		case e.b.Answer == AnswerDie:
			dieBySignal(syscall.SIGILL)
		case e.b.Answer == AnswerCut:
			cut(w)
		case e.b.AnswerStatus >= 500:
			fail(w, e.b.AnswerStatus, "server_error", "told to fail")
		case e.b.AnswerStatus >= 400:
			fail(w, e.b.AnswerStatus, "invalid_request_error", "told to fail")
		default:
			limit := cmp.Or(limits.Predict, limits.MaxTokens)
			next(w, tokens(limit))
		}
	}
}

// answered keeps how long the first completion request took.
func (e *engine) answered(began time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.firstAnswer == 0 {
		e.firstAnswer = time.Since(began)
	}
}

// tokens is how many words an answer has under limit; nil and negative numbers mean no limit.
func tokens(limit *int) int {
	all := len(strings.Fields(sentence))
	if limit == nil || *limit < 0 {
		return all
	}
	return min(*limit, all)
}

func say(words int) string { return strings.Join(strings.Fields(sentence)[:words], " ") }

func (e *engine) completion(w http.ResponseWriter, words int) {
	reply(w, http.StatusOK, object{
		"index": 0, "content": say(words), "id_slot": 0, "stop": true, "model": e.opts.alias,
		"tokens_predicted": words, "tokens_evaluated": 1, "stop_type": stopReason(words, "limit", "eos"),
	})
}

func (e *engine) openAICompletion(w http.ResponseWriter, words int) {
	e.openAI(w, words, "text_completion", object{"text": say(words)})
}

func (e *engine) chatCompletion(w http.ResponseWriter, words int) {
	e.openAI(w, words, "chat.completion", object{"message": object{"role": "assistant", "content": say(words)}})
}

func (e *engine) openAI(w http.ResponseWriter, words int, kind string, choice object) {
	choice["index"], choice["finish_reason"] = 0, stopReason(words, "length", "stop")
	reply(w, http.StatusOK, object{
		"id": "cmpl-fake", "object": kind, "created": time.Now().Unix(), "model": e.opts.alias,
		"system_fingerprint": e.build(), "choices": []object{choice},
		"usage": object{"prompt_tokens": 1, "completion_tokens": words, "total_tokens": 1 + words},
	})
}

func stopReason(words int, limited, ended string) string {
	if words < tokens(nil) {
		return limited
	}
	return ended
}

func reply(w http.ResponseWriter, code int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		data = fmt.Appendf(nil, "%q", err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Server", "llama.cpp")
	w.WriteHeader(code)
	_, _ = w.Write(data)
}

// fail answers in the form of all errors of llama-server.
func fail(w http.ResponseWriter, code int, kind, message string) {
	type detail struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    int    `json:"code"`
	}
	reply(w, code, map[string]detail{"error": {message, kind, code}})
}
