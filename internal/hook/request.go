package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Request is one over HTTP, which fails with any answer but 2xx. It follows no redirect.
type Request struct {
	Method string
	URL    string
	Body   string
	Header http.Header
	Hide   func(text string) string // takes out what must not be seen
}

// Send makes the request. Its errors hold neither the query of the address nor a header.
func (r Request) Send(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, strings.NewReader(r.Body))
	if err != nil {
		return errors.New("the address cannot be used")
	}
	req.Header = r.Header
	client := &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: probe.MaxHeader},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	what := r.Method + " " + r.Hide((&url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: req.URL.Path}).String())
	resp, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error // holds the whole address
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return fmt.Errorf("%s: %s", what, r.Hide(err.Error()))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, words))
	text := fmt.Sprintf("%s answers %d %s", what, resp.StatusCode, http.StatusText(resp.StatusCode))
	if said := tail.Clean(strings.ReplaceAll(r.Hide(string(body)), "\n", " ")); said != "" {
		text += ": " + tail.Cut(said)
	}
	return errors.New(text)
}
