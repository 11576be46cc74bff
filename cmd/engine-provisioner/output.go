package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// outputFormat is the value of --output; the zero value is text.
type outputFormat struct{ json bool }

func (o *outputFormat) String() string {
	if o.json {
		return "json"
	}
	return "text"
}

func (o *outputFormat) Type() string { return "format" }

func (o *outputFormat) Set(text string) error {
	if text != "json" && text != "text" {
		return errors.New(`write "text" or "json"`)
	}
	o.json = text == "json"
	return nil
}

// attentive remembers that something could not be written, also where nobody looks.
type attentive struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

func (a *attentive) Write(p []byte) (int, error) {
	n, err := a.w.Write(p)
	if err != nil {
		a.mu.Lock()
		a.err = cmp.Or(a.err, err)
		a.mu.Unlock()
	}
	return n, err
}

// lost is the first error.
func (a *attentive) lost() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// writeJSON writes v as one line.
func writeJSON(w io.Writer, v any) error {
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(tail.JSON(line.Bytes()))
	return err
}

// errorEvent is an error as --output json tells it.
type errorEvent struct {
	Time     time.Time             `json:"time"`
	Event    string                `json:"event"` // "error"
	Pool     string                `json:"pool,omitempty"`
	Replica  string                `json:"replica,omitempty"`
	ExitCode int                   `json:"exit_code"`
	Kind     string                `json:"kind"`
	Cause    engine.Cause          `json:"cause,omitempty"`
	Retry    bool                  `json:"retry"`
	Message  string                `json:"message"`
	Advice   string                `json:"advice,omitempty"`
	Problems []provisioner.Problem `json:"problems,omitempty"`
	LogTail  []string              `json:"log_tail,omitempty"`
	LogPath  string                `json:"log_path,omitempty"`
}

// reportError tells an error once: as JSON on stdout, or to people on stderr.
func (c *cli) reportError(err error) {
	if readerGone(err) {
		return
	}
	err = access.Explain(err)
	if c.output.json {
		e := newErrorEvent(err)
		e.Message, e.Advice = c.inWords(e.Message), c.inWords(e.Advice)
		if lost := writeJSON(c.std.out, e); lost == nil || readerGone(lost) {
			return
		}
	}
	fmt.Fprint(c.std.err, errorText(err, c.inWords(err.Error())))
}

// inWords is a text of the library for the user of this command.
func (c *cli) inWords(text string) string {
	if c.words == nil {
		return text
	}
	return c.words(text)
}

func newErrorEvent(err error) errorEvent {
	f := failureOf(err)
	name := f.Replica
	var named *replicaError
	if errors.As(err, &named) {
		name = named.replica
	}
	pool, replica, _ := strings.Cut(name, "/")
	e := errorEvent{
		Time: time.Now().UTC(), Event: "error", Pool: pool, Replica: replica, ExitCode: exitCode(err), Kind: errorKind(err),
		Cause: f.Cause, Retry: f.Retry, Message: err.Error(), Advice: f.Advice, LogTail: f.LogTail, LogPath: f.LogPath,
	}
	var gpu *provisioner.GPUError
	if errors.As(err, &gpu) {
		e.Advice = gpu.Advice
	}
	var config *provisioner.ConfigError
	if errors.As(err, &config) {
		e.Problems = config.Problems
	}
	return e
}

// errorText is an error for people: what in words, the engine's own, and where to read on.
func errorText(err error, words string) string {
	var b strings.Builder
	b.WriteString("error: " + words + "\n")
	f := failureOf(err)
	if len(f.LogTail) > 0 {
		b.WriteString("engine's last lines:\n")
		for _, line := range f.LogTail {
			b.WriteString("    " + line + "\n")
		}
	}
	if f.LogPath != "" {
		b.WriteString("log: " + f.LogPath + "\n")
	}
	return b.String()
}
