// Package probe questions a running engine over HTTP: whether it is healthy, what it says of itself and of its work, and whether
// it gives a token.
//
// Readiness, liveness, drain and recovery ask through it, with paths and keys that they take from the engine's specification.
// It knows no configuration and no engine, changes nothing, and decides nothing: what an answer means for a launch is decided
// elsewhere. Whatever an engine answers takes bounded memory, and no key gets into an error.
package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// The most that is read of an engine's answers: a health page is a line, a metrics page some kilobytes per model.
const (
	MaxHealthBody  = 64 << 10
	maxJSONBody    = 1 << 20
	MaxMetricsBody = 8 << 20
	MaxHeader      = 64 << 10 // of all headers
)

// Prober questions a running engine over HTTP. Whatever the engine does (answers a byte a second, redirects, never
// ends), a question ends at its deadline and takes bounded memory.
type Prober struct {
	Client  *http.Client // that asks: each question has a connection of its own
	base    string       // such as "http://127.0.0.1:8081"
	key     secret.Text
	redact  secret.Redactor // of the key, which an engine may repeat when it refuses it
	Timeout time.Duration   // of one question, from dialling to the body's end

	documents map[string]any // by path: what was read
}

// New is a prober of the engine at host and port. The key may be empty. timeout is that of one question.
func New(host string, port int, key secret.Text, timeout time.Duration) *Prober {
	return &Prober{
		Client: &http.Client{
			Timeout: timeout,
			Transport: &http.Transport{
				Proxy:                  nil, // the engine is on this machine
				DialContext:            (&net.Dialer{}).DialContext,
				DisableKeepAlives:      true, // else an idle connection delays llama-server's stop by 0.1 s
				DisableCompression:     true, // else a few bytes could unpack into gigabytes
				MaxResponseHeaderBytes: MaxHeader,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base:    URL(host, port),
		key:     key,
		redact:  secret.NewRedactor(key),
		Timeout: timeout,

		documents: map[string]any{},
	}
}

// patienceGrowth is how many times its timeout a question may take that got no answer before. A saturated llama-server takes
// its connections in turn: whoever hangs up and comes again is the last one each time.
const patienceGrowth = 6

// Within is the prober with another timeout, for the same engine. It shares the connections.
func (p *Prober) Within(timeout time.Duration) *Prober {
	other, client := *p, *p.Client
	client.Timeout = timeout
	other.Client = &client
	return &other
}

// Holding is the prober that goes on with the connection that it has, until the returned function is called. A
// connection that a server has once taken is served, however many others wait for one of its threads.
func (p *Prober) Holding() (_ *Prober, leave func()) {
	other, client := *p, *p.Client
	transport := client.Transport.(*http.Transport).Clone()
	transport.DisableKeepAlives = false
	client.Transport, other.Client = transport, &client
	return &other, transport.CloseIdleConnections
}

// Longer is a timeout after one that was too short.
func (p *Prober) Longer(timeout time.Duration) time.Duration {
	return min(2*timeout, patienceGrowth*p.Timeout)
}

// URL is the address of an engine.
func URL(host string, port int) string {
	return "http://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// Answer is what an engine said to a question.
type Answer struct {
	Status int
	Body   []byte
}

// String is the answer for people: the status and the beginning of a text that the engine gave with it.
func (a Answer) String() string {
	text := strconv.Itoa(a.Status) + " " + http.StatusText(a.Status)
	var doc any
	if json.Unmarshal(a.Body, &doc) == nil {
		// Ollama, FastAPI and Triton have a text where those that speak like OpenAI have a block.
		for _, key := range []string{"error.message", "error", "detail"} {
			if said, ok := LookUp(doc, key).(string); ok && said != "" {
				const most = 200
				message := tail.Clean(said)
				text += ": " + strings.ToValidUTF8(message[:min(len(message), most)], "")
				break
			}
		}
	}
	return strings.TrimSpace(text)
}

func (p *Prober) request(ctx context.Context, method, path, body string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key := p.key.Reveal(); key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	return req, nil
}

// Get asks for a page of at most limit bytes.
func (p *Prober) Get(ctx context.Context, path string, limit int64) (Answer, error) {
	req, err := p.request(ctx, http.MethodGet, path, "")
	if err != nil {
		return Answer{}, err
	}
	return p.do(p.Client, req, limit)
}

func (p *Prober) do(client *http.Client, req *http.Request, limit int64) (Answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, PlainError(err)
	}
	defer resp.Body.Close()
	return p.read(resp, limit)
}

// read takes in an answer of at most limit bytes. What is not a success is meant to be shown, so it loses the key.
func (p *Prober) read(resp *http.Response, limit int64) (Answer, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("the answer is larger than %d bytes", limit)
	}
	if p.redact.Knows() && resp.StatusCode >= 300 {
		body = []byte(p.redact.Text(string(body)))
	}
	return Answer{resp.StatusCode, body}, PlainError(err)
}

// PlainError drops the method and the address that net/http puts before every error.
func PlainError(err error) error {
	if err == nil {
		return nil
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return ErrNoAnswer
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	if op.Op == "dial" && !BrokeOff(op.Err) {
		return &unaskedError{op.Err}
	}
	return op.Err
}

// ErrNoAnswer says that an answer did not come in time.
var ErrNoAnswer = errors.New("no answer in time")

// unaskedError says that a question did not get out of here: clients have all ports of this machine's own, say, or this
// program has too many files open. It says nothing of the engine. Who waits for an answer asks again.
type unaskedError struct{ err error }

func (e *unaskedError) Error() string        { return "cannot ask it: " + e.err.Error() }
func (e *unaskedError) Unwrap() error        { return e.err }
func (e *unaskedError) Is(target error) bool { return target == ErrNoAnswer }

// Unasked reports whether err is about a question that did not get out of here.
func Unasked(err error) bool {
	_, is := errors.AsType[*unaskedError](err)
	return is
}

// BrokeOff reports whether a question got no whole answer since the connection was refused or broke.
func BrokeOff(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
