// Package chat asks a server with OpenAI's API one question, and hands on the answer as it comes.
//
// Whoever lets people try an engine calls it. It keeps no conversation, tries nothing twice, and knows no engine by name.
package chat

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Question is what is asked, and whom.
type Question struct {
	URL       string // the base URL of the API, such as "http://127.0.0.1:8081/v1"
	Key       string // the API key; "" for none
	System    string // the system prompt; "" leaves it to the model's template
	Prompt    string
	MaxTokens int // 0 leaves the length to the server
	// Temperature is how freely tokens are chosen, 0 for always the likeliest; nil leaves it to the server.
	Temperature *float64
}

// Answer is what is known of an answer beside its text.
type Answer struct {
	Model  string        // by what name the server knows the model; "" when it does not say
	Tokens int           // 0 when the server does not count them
	First  time.Duration // until the first text came
	Took   time.Duration // until the answer was complete
	Cut    bool          // it ends because of a limit
}

// Rate is the tokens a second after the first one, whose time is that of the prompt; 0 when it is not known.
func (a Answer) Rate() float64 {
	if a.Tokens < 2 || a.Took <= a.First {
		return 0
	}
	return float64(a.Tokens-1) / (a.Took - a.First).Seconds()
}

// Told is how long it took and how fast it was, for people. most is what the question allowed, 0 for no limit.
func (a Answer) Told(most int) string {
	text := ""
	if a.Tokens > 0 {
		text = fmt.Sprintf("%d tokens in ", a.Tokens)
		if a.Tokens == 1 {
			text = "1 token in "
		}
	}
	text += a.Took.Round(10 * time.Millisecond).String()
	if rate := a.Rate(); rate > 0 {
		text += fmt.Sprintf(", %.1f tokens/s", rate)
	}
	text += ", the first after " + a.First.Round(10*time.Millisecond).String()
	switch {
	case a.Cut && most > 0:
		text += fmt.Sprintf("; it was cut, by --max-tokens %d or the engine's own limit", most)
	case a.Cut:
		text += "; it was cut by a limit of the engine"
	}
	return text
}

// Ask puts the question. tell gets each piece of the answer as it comes, and of what the model thinks before it; its
// error ends the answer.
func Ask(ctx context.Context, q Question, tell func(piece string, thought bool) error) (Answer, error) {
	a := Answer{Model: q.model(ctx)}
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var messages []message
	if q.System != "" {
		messages = append(messages, message{"system", q.System})
	}
	body, err := json.Marshal(struct {
		Model     string         `json:"model,omitempty"`
		Messages  []message      `json:"messages"`
		MaxTokens int            `json:"max_tokens,omitempty"`
		Warmth    *float64       `json:"temperature,omitempty"`
		Stream    bool           `json:"stream"`
		Options   map[string]any `json:"stream_options"`
	}{a.Model, append(messages, message{"user", q.Prompt}), q.MaxTokens, q.Temperature, true, map[string]any{"include_usage": true}})
	if err != nil {
		return a, err
	}
	began := time.Now()
	resp, err := q.do(ctx, http.MethodPost, "/chat/completions", body)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return a, refusal(resp)
	}
	take := func(data []byte) error {
		c, err := read(data)
		if err != nil {
			return err
		}
		for _, part := range []struct {
			text    string
			thought bool
		}{{c.thought, true}, {c.text, false}} {
			if part.text == "" {
				continue
			}
			if a.First == 0 {
				a.First = time.Since(began)
			}
			if err := tell(part.text, part.thought); err != nil {
				return err
			}
		}
		a.Tokens, a.Cut = max(a.Tokens, c.tokens), a.Cut || c.cut
		return nil
	}
	if err := eachChunk(resp, take); err != nil {
		return a, cmp.Or(context.Cause(ctx), err)
	}
	a.Took = time.Since(began)
	return a, nil
}

// model is the first one that the server lists: some refuse a question that names none.
func (q Question) model(ctx context.Context) string {
	resp, err := q.do(ctx, http.MethodGet, "/models", nil)
	if err != nil {
		return "" // the question will tell
	}
	defer resp.Body.Close()
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, maxChunk)).Decode(&list) != nil || len(list.Data) == 0 {
		return ""
	}
	return list.Data[0].ID
}

func (q Question) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, q.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if q.Key != "" {
		req.Header.Set("Authorization", "Bearer "+q.Key)
	}
	client := http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}, // and no proxy: the engine is on this machine
		// The key is for this server alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	return resp, nil
}

// maxChunk bounds what is read of a server at once.
const maxChunk = 4 << 20

// refusal is the error of an answer that is none.
func refusal(resp *http.Response) error {
	const enough = 500 // bytes; a page in HTML helps nobody
	data, _ := io.ReadAll(io.LimitReader(resp.Body, enough))
	text := strings.TrimSpace(string(data))
	if c, err := read(data); err != nil && c.refused {
		text = err.Error()
	}
	return fmt.Errorf("the engine says %s: %s", resp.Status, text)
}

// eachChunk gives take each JSON object of the answer: of a stream of events, or of the one of a server that does not stream.
func eachChunk(resp *http.Response, take func([]byte) error) error {
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxChunk))
		if err != nil {
			return err
		}
		return take(data)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxChunk)
	for lines.Scan() {
		data, is := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		switch data = bytes.TrimSpace(data); {
		case !is || len(data) == 0:
			continue
		case string(data) == "[DONE]":
			return nil
		}
		if err := take(data); err != nil {
			return err
		}
	}
	return cmp.Or(lines.Err(), errCut)
}

var errCut = errors.New("the answer ends in the middle: the engine has broken the connection")

// chunk is a piece of an answer, or the whole of one.
type chunk struct {
	text, thought string
	tokens        int
	cut           bool
	refused       bool // the server says that it cannot answer
}

func read(data []byte) (chunk, error) {
	type words struct {
		Content  string `json:"content"`
		Thought  string `json:"reasoning_content"`
		Thoughts string `json:"reasoning"` // vLLM since 0.11
	}
	var c struct {
		Choices []struct {
			Delta   words  `json:"delta"`
			Message words  `json:"message"`
			Finish  string `json:"finish_reason"`
		} `json:"choices"`
		Usage struct {
			Tokens int `json:"completion_tokens"`
		} `json:"usage"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return chunk{}, fmt.Errorf("cannot read the answer: %w", err)
	}
	if len(c.Error) > 0 && string(c.Error) != "null" {
		return chunk{refused: true}, errors.New(errorText(c.Error))
	}
	got := chunk{tokens: c.Usage.Tokens}
	if len(c.Choices) > 0 {
		first := c.Choices[0]
		got.text = first.Delta.Content + first.Message.Content
		got.thought = cmp.Or(first.Delta.Thought, first.Delta.Thoughts, first.Message.Thought, first.Message.Thoughts)
		got.cut = first.Finish == "length"
	}
	return got, nil
}

// errorText is the message of an error, which some servers write as text alone.
func errorText(data json.RawMessage) string {
	var block struct {
		Message string `json:"message"`
	}
	var text string
	if json.Unmarshal(data, &block) == nil && block.Message != "" {
		return block.Message
	}
	if json.Unmarshal(data, &text) == nil {
		return text
	}
	return string(data)
}
