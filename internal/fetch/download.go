package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/llama-orch/engine-provisioner/internal/bytesize"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// StatusError is an answer of a server that is neither the file nor worth another try.
type StatusError struct {
	Code    int    // such as 404
	Host    string // that answered, which may be another than the one that was asked
	Reason  string // what Hugging Face calls X-Error-Code, such as "GatedRepo"
	Message string // the server's own words, cleaned
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s answers %d %s", e.Host, e.Code, http.StatusText(e.Code))
	if e.Message != "" {
		text += fmt.Sprintf(": %q", e.Message)
	}
	return text
}

func statusError(resp *http.Response) error {
	words := tail.Clean(resp.Header.Get("X-Error-Message"))
	if len(words) > 300 {
		words = strings.ToValidUTF8(words[:300], "") + "…"
	}
	return &StatusError{
		Code: resp.StatusCode, Host: resp.Request.URL.Host, Reason: tail.Clean(resp.Header.Get("X-Error-Code")), Message: words,
	}
}

// maxRetryAfter is the longest wait that a server can impose.
const maxRetryAfter = 5 * time.Minute

// requester makes the requests of one download.
type requester struct {
	client    *retryablehttp.Client
	transport *http.Transport
	token     string
	stall     time.Duration
	least     int64         // bytes within each minute; 0 means that any will do
	within    time.Duration // a minute
}

// newRequester makes one that tries again so many times. stall bounds the wait for an answer.
func newRequester(token string, retries int, floor, stall time.Duration) requester {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: stall,
		Protocols:             new(http.Protocols),
	}
	// HTTP/2 would put all ranges into one connection, and a lost packet would hold up all of them.
	transport.Protocols.SetHTTP1(true)
	return requester{
		transport: transport,
		token:     token,
		stall:     stall,
		client: &retryablehttp.Client{
			HTTPClient:   &http.Client{Transport: transport, CheckRedirect: checkRedirect},
			RetryMax:     retries,
			RetryWaitMin: floor,
			RetryWaitMax: 10 * time.Second,
			CheckRetry:   checkRetry,
			Backoff:      retryablehttp.DefaultBackoff, // it heeds Retry-After
			ErrorHandler: retryablehttp.PassthroughErrorHandler,
		},
	}
}

func (r requester) close() { r.transport.CloseIdleConnections() }

// refusedError is a redirect that is not followed.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return "cannot follow a redirect: " + e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// checkRedirect keeps credentials from other hosts. net/http lets them pass to subdomains and other ports, and it tells
// the new host the old URL.
func checkRedirect(req *http.Request, via []*http.Request) error {
	req.Header.Del("Referer")
	if !sameHost(req.URL, via[0].URL) {
		req.Header.Del("Authorization")
	}
	if len(via) >= 10 {
		return &refusedError{errors.New("there were ten already")}
	}
	if err := checkURL(req.URL); err != nil {
		return &refusedError{err}
	}
	return nil
}

func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		var refused *refusedError
		if errors.As(err, &refused) {
			return false, refused
		}
		again, _ := retryablehttp.DefaultRetryPolicy(ctx, nil, err)
		return again, nil
	}
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout,
		code >= 500 && code != http.StatusNotImplemented:
	default:
		return false, nil
	}
	if wait := retryAfter(resp); wait > maxRetryAfter {
		defer resp.Body.Close()
		return false, fmt.Errorf("%w, and that it must not be asked again for %s; try again then", statusError(resp), wait)
	}
	return true, nil
}

func retryAfter(resp *http.Response) time.Duration {
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return time.Until(at).Round(time.Second)
	}
	return 0
}

// get asks for a URL. The answer has the status 200 or 206, and its body must be closed.
func (r requester) get(outer context.Context, url string, header http.Header) (_ *http.Response, err error) {
	if err := CheckURL(url); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(outer)
	defer func() {
		if err != nil {
			cancel(nil)
		}
	}()
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, bare(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "engine-provisioner")
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if outer.Err() != nil {
			err = context.Cause(outer)
		}
		return nil, bare(err)
	}
	resp.Body = &watched{
		ReadCloser: resp.Body, outer: outer, ctx: ctx, cancel: cancel, limit: r.stall, least: r.least, minute: r.within, since: time.Now(),
		timer: time.AfterFunc(r.stall, func() { cancel(errStalled) }),
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		resp.Body.Close()
		return nil, statusError(resp)
	}
	return resp, nil
}

// longestGet is for a small document with all tries, of which each may be told to wait.
const longestGet = 10 * time.Minute

// Get reads a small document, of at most limit bytes.
func Get(ctx context.Context, url, token string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, longestGet, fmt.Errorf("it did not come within %s", longestGet))
	defer cancel()
	r := newRequester(token, 4, 250*time.Millisecond, 30*time.Second)
	defer r.close()
	data, err := r.document(ctx, url, limit)
	for range 2 {
		var cut *brokenError
		if !errors.As(err, &cut) {
			break
		}
		data, err = r.document(ctx, url, limit)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", Redact(url), err)
	}
	return data, nil
}

func (r requester) document(ctx context.Context, url string, limit int64) ([]byte, error) {
	resp, err := r.get(ctx, url, http.Header{"Accept": {"application/json"}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("it has more than the %s that are allowed", bytesize.Decimal(limit))
	}
	return data, nil
}

// brokenError says that the connection broke while the body came, and that asking for the rest may help.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return "the connection broke: " + e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

var errStalled = errors.New("nothing came")

// slowError says that a connection brings too little.
type slowError struct {
	came, least int64 // bytes
	within      time.Duration
}

func (e *slowError) Error() string {
	return fmt.Sprintf("%s came within %s, less than the %s a minute of \"download.min_per_minute\"", bytesize.Decimal(e.came), e.within.Round(time.Millisecond), bytesize.Decimal(e.least))
}

// watched is a body that breaks when it brings nothing for too long, or too little.
type watched struct {
	io.ReadCloser
	outer, ctx context.Context // the caller's, and that of the request
	cancel     context.CancelCauseFunc
	limit      time.Duration
	timer      *time.Timer

	least  int64
	minute time.Duration
	since  time.Time // the beginning of this minute
	came   int64     // in it
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.ReadCloser.Read(b)
	if n > 0 {
		w.timer.Reset(w.limit)
		w.came += int64(n)
	}
	if took := time.Since(w.since); err == nil && w.least > 0 && took >= w.minute {
		if float64(w.came)/took.Minutes() < float64(w.least)/w.minute.Minutes() {
			return n, &brokenError{&slowError{w.came, w.least, took}}
		}
		w.since, w.came = time.Now(), 0
	}
	switch {
	case err == nil || errors.Is(err, io.EOF):
	case w.outer.Err() != nil:
		err = context.Cause(w.outer)
	case errors.Is(context.Cause(w.ctx), errStalled):
		err = &brokenError{fmt.Errorf("%w for %s", errStalled, w.limit)}
	default:
		err = &brokenError{bare(err)}
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.ReadCloser.Close()
}

// Size asks how large the file at a URL is; 0 where that is not told.
func Size(ctx context.Context, url string) int64 {
	r := newRequester("", 1, 250*time.Millisecond, 10*time.Second)
	defer r.close()
	resp, err := r.get(ctx, url, rangeHeader(0, 1))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusPartialContent {
		_, total, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
		size, _ := strconv.ParseInt(total, 10, 64)
		return size
	}
	return max(0, resp.ContentLength)
}
