package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/chat"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// enoughTokens ends what a small model would go on with for ever: some never tell that they have come to an end.
const enoughTokens = 1024

func (c *cli) askCommand() *cobra.Command {
	var q chat.Question
	var temperature float64
	cmd := &cobra.Command{
		Use:   "ask [POOL[/REPLICA]] PROMPT",
		Short: "Put a question to a ready replica, and print the answer as it comes",
		Long: `Put one question to a ready replica by its OpenAI API, whose URL and key are those of the handoff, and print the answer as
it comes. What the model thinks before it, and how fast it was, goes to stderr. Of several ready replicas it is the first.
Without PROMPT, or with "-", the question is read from stdin.`,
		Example: `  engine-provisioner ask "What is the capital of France?"
  engine-provisioner ask chat/r0 --max-tokens 100 "Tell me a story"
  engine-provisioner ask - < question.txt`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.MaxTokens < 0 {
				return &usageError{err: errors.New("--max-tokens must not be negative; 0 is no limit")}
			}
			if cmd.Flags().Changed("temperature") {
				q.Temperature = &temperature
			}
			if strings.TrimSpace(q.Prompt) == "" {
				return errEmpty
			}
			if q.Prompt == "-" {
				prompt, err := c.readPrompt()
				if err != nil {
					return err
				}
				q.Prompt = prompt
			}
			h, err := c.readyOne()
			if err != nil {
				return err
			}
			return c.ask(cmd.Context(), h, q)
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	named := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 2 {
			return fmt.Errorf("%d arguments; put the question into quotes, and before it at most a pool or a replica", len(args))
		}
		q.Prompt = "-"
		if len(args) > 0 {
			q.Prompt, args = args[len(args)-1], args[:len(args)-1]
		}
		return named(cmd, args)
	}
	cmd.Flags().StringVar(&q.System, "system", "", "the system prompt (default: that of the model's template)")
	cmd.Flags().IntVar(&q.MaxTokens, "max-tokens", enoughTokens, "end the answer after this many tokens; 0 leaves its length to the engine")
	cmd.Flags().Float64Var(&temperature, "temperature", 0, "how freely tokens are chosen; 0 always takes the likeliest (default: the engine's)")
	return cmd
}

var errEmpty = &usageError{err: errors.New(`the question is empty; write it in quotes, such as: engine-provisioner ask "What is the capital of France?"`)}

// readPrompt reads the question from stdin.
func (c *cli) readPrompt() (string, error) {
	if f, is := c.std.in.(*os.File); is && term.IsTerminal(int(f.Fd())) {
		return "", &usageError{err: errors.New(`no question; write it in quotes, such as: engine-provisioner ask "What is the capital of France?"`)}
	}
	const most = 16 << 20
	data, err := io.ReadAll(io.LimitReader(c.std.in, most))
	if err != nil {
		return "", fmt.Errorf("cannot read the question: %w", err)
	}
	if strings.TrimSpace(string(data)) == "" {
		return "", errEmpty
	}
	return string(data), nil
}

// readyOne is the handoff of the first ready replica that the flags and arguments name, and that has an OpenAI API.
func (c *cli) readyOne() (provisioner.Handoff, error) {
	found, stateDir, err := c.recorded()
	if len(found) == 0 {
		return provisioner.Handoff{}, cmp.Or(err, c.nothing(stateDir))
	}
	if stateDir, err = state.Dir(stateDir); err != nil {
		return provisioner.Handoff{}, err
	}
	var without error
	for _, s := range found {
		if s.State != provisioner.StateReady {
			continue
		}
		h, err := provisioner.ReadHandoff(state.In(stateDir, state.Stem(s.Pool, s.Replica)).Handoff())
		switch {
		case err == nil && h.OpenAIURL != "":
			return h, nil
		case err == nil:
			err = fmt.Errorf("%s is ready, and has no OpenAI API that is known here; of an engine \"custom\", \"custom.openai\" says where it is", s.ID())
		}
		without = cmp.Or(without, err)
	}
	return provisioner.Handoff{}, cmp.Or(without, c.lateError(found))
}

func (c *cli) ask(ctx context.Context, h provisioner.Handoff, q chat.Question) error {
	key := secret.Of("")
	if ref := h.Auth; ref != nil {
		var err error
		if key, err = secret.First(ref.FromEnv, ref.FromFile); err != nil {
			return fmt.Errorf("cannot ask %s without its key: %w", h.ID(), err)
		}
	}
	q.URL, q.Key = h.OpenAIURL, key.Reveal()
	var text strings.Builder
	ended := true // a line
	a, err := chat.Ask(ctx, q, func(piece string, thought bool) error {
		text.WriteString(piece)
		w := c.std.out
		switch {
		case c.output.json:
			return nil
		case thought:
			w = c.std.err
		}
		ended = strings.HasSuffix(piece, "\n")
		_, err := io.WriteString(w, piece)
		return err
	})
	if !ended {
		fmt.Fprintln(c.std.out)
	}
	if stopped := interruption(ctx); stopped != nil {
		return stopped
	}
	if err != nil {
		return about(h.ID().String(), fmt.Errorf("cannot ask %s: %w", h.ID(), err))
	}
	if c.output.json {
		return writeJSON(c.std.out, askResult{
			Pool: h.PoolID, Replica: h.ReplicaID, URL: q.URL, Model: a.Model, Answer: text.String(), Cut: a.Cut, Tokens: a.Tokens,
			Rate: a.Rate(), First: a.First.Seconds(), Took: a.Took.Seconds(),
		})
	}
	c.say(h.ID().String() + ": " + a.Told(q.MaxTokens))
	return nil
}

// askResult is an answer as --output json tells it.
type askResult struct {
	Pool    string  `json:"pool"`
	Replica string  `json:"replica"`
	URL     string  `json:"url"`
	Model   string  `json:"model,omitempty"`
	Answer  string  `json:"answer"`
	Cut     bool    `json:"cut,omitempty"` // it ends because of a limit
	Tokens  int     `json:"tokens,omitempty"`
	Rate    float64 `json:"tokens_per_second,omitempty"`
	First   float64 `json:"first_token_seconds"`
	Took    float64 `json:"took_seconds"`
}
