package enginetest

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// sentence is what the fake answers to everything, one token a word.
const sentence = "This is a fake engine: it always says the same words."

// object is a JSON object.
type object = map[string]any

// handler answers what comes before every route: tests, and health checks that go wrong.
func (e *engine) handler() http.Handler {
	routes := e.profile.routes(e)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", e.about.server)
		if e.threads != nil && r.URL.Path != reportPath {
			select {
			case e.threads <- struct{}{}:
				defer func() { <-e.threads }()
			case <-r.Context().Done():
				return
			}
		}
		switch {
		case r.URL.Path == reportPath && r.Method == http.MethodPost:
			e.obey(w, r)
		case r.URL.Path == reportPath:
			e.tell(w)
		case e.hung.Load():
			<-r.Context().Done()
		case e.isHealth(r) && e.failing.Load() != 0:
			e.profile.fail(w, int(e.failing.Load()), "server_error", "")
		case e.isHealth(r) && e.misbehave(w, r):
		case r.Method == http.MethodGet && !e.isHealth(r) && e.deaf(r.URL.Path, e.b.DeafFirst):
			<-r.Context().Done()
		case r.Method == http.MethodPost && e.deaf(http.MethodPost, e.b.LoseFirst):
			_, _ = io.Copy(io.Discard, r.Body) // only then the end of the connection is seen
			<-r.Context().Done()
		default:
			routes.ServeHTTP(w, r)
		}
	})
}

func (e *engine) isHealth(r *http.Request) bool { return slices.Contains(e.about.health, r.URL.Path) }

// deaf reports whether a request gets no answer: one of the first so many of what.
func (e *engine) deaf(what string, first int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ignored[what] >= first {
		return false
	}
	if e.ignored == nil {
		e.ignored = map[string]int{}
	}
	e.ignored[what]++
	return true
}

// healthy answers a health check with an empty body, as most engines do: 200, or what the behaviour wants.
func (e *engine) healthy(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(cmp.Or(e.b.HealthStatus, http.StatusOK))
}

// version is what the running engine says of itself.
func (e *engine) version() string { return orElse(e.b.PropsBuild, e.about.version) }

// model is the model that the running engine says it serves.
func (e *engine) model() string { return orElse(e.b.PropsModel, e.opts.model) }

func (e *engine) authorized(r *http.Request) bool {
	key, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return len(e.opts.keys) == 0 || bearer && slices.Contains(e.opts.keys, key)
}

// running is how many requests have a slot; the others wait.
func (e *engine) running() int {
	if e.b.HideRequests {
		return 0
	}
	return min(int(e.inFlight.Load()), e.opts.slots)
}

// waiting is how many requests have none.
func (e *engine) waiting() int {
	if e.b.HideRequests {
		return 0
	}
	return max(0, int(e.inFlight.Load())-e.opts.slots)
}

// steps is how many steps the engine's model has made: whenever they are looked at while it is at work, more. A request for
// one token is none to speak of.
func (e *engine) steps() int {
	working := e.long.Load() > 0 && e.b.Answer != AnswerHang
	select {
	case <-e.wedged:
		working = false
	default:
	}
	if working {
		e.stepped.Add(16)
	}
	return int(e.stepped.Load())
}

// completionRequest is what the fake reads of a request, in the words of each engine.
type completionRequest struct {
	Model      *string    `json:"model"`
	Predict    *int       `json:"n_predict"`
	MaxTokens  *int       `json:"max_tokens"`
	Sampling   *newTokens `json:"sampling_params"` // SGLang's /generate
	Parameters *newTokens `json:"parameters"`      // TGI's /generate
}

type newTokens struct {
	Max *int `json:"max_new_tokens"`
}

// words is how many words an answer has.
func (r completionRequest) words() int {
	limit := cmp.Or(r.Predict, r.MaxTokens)
	for _, n := range []*newTokens{r.Sampling, r.Parameters} {
		if n != nil {
			limit = cmp.Or(limit, n.Max)
		}
	}
	return tokens(limit)
}

// answering wraps a completion route with the ways in which answers go wrong.
func (e *engine) answering(next func(w http.ResponseWriter, words int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer e.answered(time.Now())
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var request completionRequest
		if err := json.Unmarshal(body, &request); err != nil {
			e.profile.fail(w, http.StatusBadRequest, "invalid_request_error", "cannot parse the request: "+err.Error())
			return
		}
		if request.Model != nil && e.opts.checksName && *request.Model != e.opts.alias {
			e.profile.fail(w, http.StatusNotFound, "NotFoundError", "The model `"+*request.Model+"` does not exist.")
			return
		}
		e.busy.RLock()
		defer e.busy.RUnlock()
		e.served.Add(1)
		e.inFlight.Add(1)
		defer e.inFlight.Add(-1)
		if request.words() > 1 {
			e.long.Add(1)
			defer e.long.Add(-1)
		}
		var done <-chan time.Time
		if e.b.Answer != AnswerHang {
			done = time.After(e.b.BusyRequests)
		}
		select {
		case <-e.wedged:
			<-r.Context().Done()
			return
		default:
		}
		select {
		case <-done:
			e.tokens.Add(int64(request.words()))
		case <-e.wedged:
			<-r.Context().Done()
			return
		case <-r.Context().Done():
			return
		case <-e.stopping: // neither data nor an end of the connection
			<-r.Context().Done()
			return
		}
		switch {
		case e.b.Answer == AnswerDie:
			e.profile.dieAnswering(e, w)
		case e.b.Answer == AnswerCut:
			cut(w)
		case e.b.AnswerStatus >= 500:
			e.profile.fail(w, e.b.AnswerStatus, "server_error", "told to fail")
		case e.b.AnswerStatus >= 400:
			e.profile.fail(w, e.b.AnswerStatus, "invalid_request_error", "told to fail")
		default:
			next(w, request.words())
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
		"system_fingerprint": e.version(), "choices": []object{choice},
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
		data, code = []byte(err.Error()), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(data)
}
