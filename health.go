package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// The most that is read of an engine's answers: a health page is a line, a metrics page some kilobytes per model.
const (
	maxHealthBody  = 64 << 10
	maxJSONBody    = 1 << 20
	maxMetricsBody = 8 << 20
	maxHeader      = 64 << 10
)

// prober questions a running engine over HTTP. Whatever the engine does (answers a byte a second, redirects, never
// ends), a question ends at its deadline and takes bounded memory.
type prober struct {
	client  *http.Client // each question has a connection of its own
	base    string       // such as "http://127.0.0.1:8081"
	key     secret.Text
	redact  secret.Redactor // of the key, which an engine may repeat when it refuses it
	timeout time.Duration   // of one question, from dialling to the body's end

	documents map[string]any // by path; what field has read
}

func newProber(host string, port int, key secret.Text, timeout time.Duration) *prober {
	return &prober{
		client: &http.Client{
			Timeout: timeout,
			Transport: &http.Transport{
				Proxy:                  nil, // the engine is on this machine
				DialContext:            (&net.Dialer{}).DialContext,
				DisableKeepAlives:      true, // else an idle connection delays llama-server's stop by 0.1 s
				DisableCompression:     true, // else a few bytes could unpack into gigabytes
				MaxResponseHeaderBytes: maxHeader,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base:    engineURL(host, port),
		key:     key,
		redact:  secret.NewRedactor(key),
		timeout: timeout,

		documents: map[string]any{},
	}
}

// patienceGrowth is how many times its timeout a question may take that got no answer before. A saturated llama-server takes
// its connections in turn: whoever hangs up and comes again is the last one each time.
const patienceGrowth = 6

// within is the prober with another timeout, for the same engine. It shares the connections.
func (p *prober) within(timeout time.Duration) *prober {
	other, client := *p, *p.client
	client.Timeout = timeout
	other.client = &client
	return &other
}

// holding is the prober that goes on with the connection that it has, until the returned function is called. A
// connection that a server has once taken is served, however many others wait for one of its threads.
func (p *prober) holding() (_ *prober, leave func()) {
	other, client := *p, *p.client
	transport := client.Transport.(*http.Transport).Clone()
	transport.DisableKeepAlives = false
	client.Transport, other.client = transport, &client
	return &other, transport.CloseIdleConnections
}

// longer is a timeout after one that was too short.
func (p *prober) longer(timeout time.Duration) time.Duration {
	return min(2*timeout, patienceGrowth*p.timeout)
}

func engineURL(host string, port int) string {
	return "http://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// answer is what an engine said to a question.
type answer struct {
	status int
	body   []byte
}

// String is the answer for people: the status and the beginning of a text that the engine gave with it.
func (a answer) String() string {
	text := strconv.Itoa(a.status) + " " + http.StatusText(a.status)
	var doc any
	if json.Unmarshal(a.body, &doc) == nil {
		// Ollama, FastAPI and Triton have a text where those that speak like OpenAI have a block.
		for _, key := range []string{"error.message", "error", "detail"} {
			if said, ok := lookUp(doc, key).(string); ok && said != "" {
				const most = 200
				message := tail.Clean(said)
				text += ": " + strings.ToValidUTF8(message[:min(len(message), most)], "")
				break
			}
		}
	}
	return strings.TrimSpace(text)
}

func (p *prober) request(ctx context.Context, method, path, body string) (*http.Request, error) {
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

// get asks for a page of at most limit bytes.
func (p *prober) get(ctx context.Context, path string, limit int64) (answer, error) {
	req, err := p.request(ctx, http.MethodGet, path, "")
	if err != nil {
		return answer{}, err
	}
	return p.do(p.client, req, limit)
}

func (p *prober) do(client *http.Client, req *http.Request, limit int64) (answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, plainError(err)
	}
	defer resp.Body.Close()
	return p.read(resp, limit)
}

// read takes in an answer of at most limit bytes. What is not a success is meant to be shown, so it loses the key.
func (p *prober) read(resp *http.Response, limit int64) (answer, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("the answer is larger than %d bytes", limit)
	}
	if len(p.redact) > 0 && resp.StatusCode >= 300 {
		body = []byte(p.redact.Text(string(body)))
	}
	return answer{resp.StatusCode, body}, plainError(err)
}

// plainError drops the method and the address that net/http puts before every error.
func plainError(err error) error {
	if err == nil {
		return nil
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errNoAnswer
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	if op.Op == "dial" && !brokeOff(op.Err) {
		return &unaskedError{op.Err}
	}
	return op.Err
}

var errNoAnswer = errors.New("no answer in time")

// unaskedError says that a question did not get out of here: clients have all ports of this machine's own, say, or this
// program has too many files open. It says nothing of the engine. Who waits for an answer asks again.
type unaskedError struct{ err error }

func (e *unaskedError) Error() string        { return "cannot ask it: " + e.err.Error() }
func (e *unaskedError) Unwrap() error        { return e.err }
func (e *unaskedError) Is(target error) bool { return target == errNoAnswer }

// unasked reports whether err is about a question that did not get out of here.
func unasked(err error) bool {
	_, is := errors.AsType[*unaskedError](err)
	return is
}

// brokeOff reports whether a question got no whole answer since the connection was refused or broke.
func brokeOff(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// awaitHealthy asks the health path until it says 200, which may take hours. 503 and other server errors, refused and
// broken connections mean that the engine is loading; any other answer means that this is not the engine's health
// path. Questions are no closer than takes, which is what the engine needs for a healthy answer. heard is told of every
// answer that is not yet 200. It returns ctx's cause when that is done first.
func (p *prober) awaitHealthy(ctx context.Context, path string, takes time.Duration, since time.Time, heard func(string)) error {
	var fatal error
	own := *p.client
	client := &retryablehttp.Client{
		HTTPClient: &own,
		RetryMax:   math.MaxInt, // ctx is the bound
		CheckRetry: func(_ context.Context, resp *http.Response, err error) (bool, error) {
			if ctx.Err() != nil {
				return false, context.Cause(ctx)
			}
			if err != nil {
				if err = plainError(err); errors.Is(err, errNoAnswer) {
					own.Timeout = p.longer(own.Timeout)
				}
				heard(err.Error())
				return true, nil
			}
			a, unread := p.read(resp, maxHealthBody)
			switch {
			case ctx.Err() != nil:
				return false, context.Cause(ctx)
			case unread != nil:
				heard(a.String() + ", " + unread.Error())
				return true, nil //nolint:nilerr // asking again is what is done about it
			case a.status == http.StatusOK:
				return false, nil
			}
			heard(a.String())
			fatal = p.unauthorized(path, a)
			if fatal == nil && a.status < 500 && a.status != http.StatusTooManyRequests {
				fatal = fmt.Errorf("%s answers %s; it is not this engine's health path, or not this engine", path, a)
			}
			return fatal == nil, nil
		},
		Backoff: func(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
			return max(probeInterval(time.Since(since)), takes)
		},
	}
	req, err := p.request(ctx, http.MethodGet, path, "")
	if err != nil {
		return err
	}
	retryable, err := retryablehttp.FromRequest(req)
	if err != nil {
		return err
	}
	resp, err := client.Do(retryable)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	resp.Body.Close()
	return fatal
}

// probeInterval is the time between two questions to an engine that has been loading for elapsed: about 1 % of it, so
// that a short load is seen at once and a long one is not disturbed.
func probeInterval(elapsed time.Duration) time.Duration {
	return min(max(elapsed/100, 2*time.Millisecond), 250*time.Millisecond)
}

// untilAnswered asks a question again for as long as it gets no answer in time, as the health path is asked: an engine
// that compiles its kernels, or a busy machine, can be slow for a while. Any answer is taken, a wrong one, too. It
// returns ctx's cause when that is done first.
func (p *prober) untilAnswered(ctx context.Context, since time.Time, heard func(string), ask func(*prober) error) error {
	for timeout := p.timeout; ; timeout = p.longer(timeout) {
		err := ask(p.within(timeout))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			heard(answer{status: http.StatusOK}.String())
			return nil
		case !errors.Is(err, errNoAnswer):
			return err
		}
		heard(err.Error())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(probeInterval(time.Since(since))):
		}
	}
}
