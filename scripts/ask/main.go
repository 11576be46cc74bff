// Command ask puts a question to the engine of a handoff file and prints the answer:
//
//	go run ./scripts/ask .runtime/engines/demo-r0.json "What is the capital of France?"
//
// It stands in for curl and jq, which a fresh machine may lack.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: ask HANDOFF QUESTION")
		os.Exit(2)
	}
	answer, err := ask(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "ask:", err)
		os.Exit(1)
	}
	fmt.Println(answer)
}

func ask(handoff, question string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	content, err := os.ReadFile(handoff)
	if err != nil {
		return "", err
	}
	var engine struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(content, &engine); err != nil {
		return "", fmt.Errorf("cannot read %q: %w", handoff, err)
	}
	body, err := json.Marshal(map[string]any{
		"messages": []map[string]string{
			// With the system prompt of its own template the small model of the demo rambles in French.
			{"role": "system", "content": "You are a helpful assistant."},
			{"role": "user", "content": question},
		},
		"max_tokens":  48,
		"temperature": 0,
	})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, engine.URL+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	content, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the engine says %s: %.500s", resp.Status, content)
	}
	var completion struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(content, &completion); err != nil {
		return "", fmt.Errorf("cannot read the engine's answer: %w", err)
	}
	if len(completion.Choices) == 0 || completion.Choices[0].Message.Content == "" {
		return "", errors.New("the engine's answer is empty")
	}
	return strings.TrimSpace(completion.Choices[0].Message.Content), nil
}
