package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// server answers with a page, and keeps what it was asked.
func server(t *testing.T, status int, kind, page string) (Question, *http.Request, *map[string]any) {
	t.Helper()
	var asked http.Request
	body := map[string]any{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":[{"id":"tiny"},{"id":"other"}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		asked = *r
		data, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(data, &body); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		fmt.Fprint(w, page)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return Question{URL: s.URL + "/v1", Prompt: "Hi"}, &asked, &body
}

func TestAsk(t *testing.T) {
	t.Parallel()
	const events, plain = "text/event-stream", "application/json"
	for _, c := range []struct {
		name, kind, page string
		status           int
		text, thought    string
		tokens           int
		cut              bool
		err              string
	}{
		{
			name: "stream", kind: events + "; charset=utf-8", status: 200, text: "Paris.", tokens: 3,
			page: ": a comment\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"Par\"}}]}\n\n" +
				"data:{\"choices\":[{\"delta\":{\"content\":\"is.\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: {\"choices\":[],\"usage\":{\"completion_tokens\":3}}\n\ndata: [DONE]\n\n",
		},
		{
			name: "thoughts", kind: events, status: 200, text: "A", thought: "hmm", cut: true,
			page: "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"h\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"reasoning\":\"mm\"}}]}\n\n" +
				"data: {\"choices\":[{\"delta\":{\"content\":\"A\"},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n",
		},
		{name: "no stream", kind: plain, status: 200, text: "Hello", tokens: 2, page: `{"choices":[{"message":{"content":"Hello"}}],"usage":{"completion_tokens":2}}`},
		{name: "cut off", kind: events, status: 200, text: "Par", page: "data: {\"choices\":[{\"delta\":{\"content\":\"Par\"}}]}\n\n", err: "ends in the middle"},
		{name: "fails in the middle", kind: events, status: 200, page: "data: {\"error\":{\"message\":\"context is full\"}}\n\n", err: "context is full"},
		{name: "refused", kind: plain, status: 401, page: `{"error":{"message":"Invalid API Key"}}`, err: "401 Unauthorized: Invalid API Key"},
		{name: "refused in words", kind: plain, status: 400, page: `{"error":"no chat template"}`, err: "400 Bad Request: no chat template"},
		{name: "another page", kind: "text/html", status: 502, page: "<p>bad</p>", err: "502 Bad Gateway: <p>bad</p>"},
		{name: "no JSON", kind: plain, status: 200, page: "<p>", err: "cannot read the answer"},
		{name: "redirect", kind: plain, status: 307, page: "elsewhere", err: "307 Temporary Redirect"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, asked, body := server(t, c.status, c.kind, c.page)
			q.Key, q.System, q.MaxTokens, q.Temperature = "sesame", "Be short.", 7, new(float64)
			var text, thought strings.Builder
			a, err := Ask(t.Context(), q, func(piece string, isThought bool) error {
				if isThought {
					thought.WriteString(piece)
				} else {
					text.WriteString(piece)
				}
				return nil
			})
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if text.String() != c.text || thought.String() != c.thought || a.Tokens != c.tokens || a.Cut != c.cut || a.Model != "tiny" {
				t.Errorf("%q, %q, %+v", text.String(), thought.String(), a)
			}
			if got := asked.Header.Get("Authorization"); got != "Bearer sesame" {
				t.Errorf("the key is presented as %q", got)
			}
			if got := fmt.Sprint((*body)["model"], (*body)["max_tokens"], (*body)["temperature"], (*body)["messages"]); got != "tiny7 0 [map[content:Be short. role:system] map[content:Hi role:user]]" {
				t.Errorf("asked %s", got)
			}
		})
	}
}

// Who does not want to read on, or interrupts, ends the answer.
func TestAskEnds(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	q, _, _ := server(t, http.StatusOK, "application/json", `{"choices":[{"message":{"content":"Hello"}}]}`)
	if _, err := Ask(t.Context(), q, func(string, bool) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the reader's error is %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if _, err := Ask(ctx, q, nil); !errors.Is(err, enough) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	if got := (Answer{Tokens: 11, First: time.Second, Took: 3 * time.Second}).Rate(); got != 5 {
		t.Errorf("10 tokens in 2 s are %v a second", got)
	}
	for _, a := range []Answer{{}, {Tokens: 1, First: time.Second, Took: 2 * time.Second}, {Tokens: 9, First: time.Second, Took: time.Second}} {
		if got := a.Rate(); got != 0 {
			t.Errorf("%+v has a rate of %v", a, got)
		}
	}
}

// How long, how fast, and that an answer was cut, by whom.
func TestTold(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		answer Answer
		most   int
	}{
		"1s, the first after 500ms":                                                        {Answer{First: time.Second / 2, Took: time.Second}, 10},
		"1 token in 1s, the first after 1s":                                                {Answer{Tokens: 1, First: time.Second, Took: time.Second}, 10},
		"11 tokens in 2s, 10.0 tokens/s, the first after 1s":                               {Answer{Tokens: 11, First: time.Second, Took: 2 * time.Second}, 10},
		"1s, the first after 1s; it was cut by a limit of the engine":                      {Answer{First: time.Second, Took: time.Second, Cut: true}, 0},
		"1s, the first after 1s; it was cut, by --max-tokens 10 or the engine's own limit": {Answer{First: time.Second, Took: time.Second, Cut: true}, 10},
	} {
		if got := c.answer.Told(c.most); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
