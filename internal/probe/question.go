package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/exposition"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Field is a value in a JSON document that the engine serves.
type Field struct {
	Path string // the URL's
	Key  string // keys and indexes with dots between, such as "data.0.root"
}

// Text reads a text from a JSON document that the engine serves. Each document is asked for once.
func (p *Prober) Text(ctx context.Context, f Field) (string, error) {
	doc, err := p.document(ctx, f.Path)
	if err != nil {
		return "", err
	}
	text, ok := LookUp(doc, f.Key).(string)
	if !ok {
		return "", fmt.Errorf("cannot read %s: no text under %q", f.Path, f.Key)
	}
	return tail.Clean(text), nil
}

// Number is Text for a whole number.
func (p *Prober) Number(ctx context.Context, f Field) (int, error) {
	doc, err := p.document(ctx, f.Path)
	if err != nil {
		return 0, err
	}
	n, ok := LookUp(doc, f.Key).(float64)
	if !ok || n != float64(int32(n)) {
		return 0, fmt.Errorf("cannot read %s: no whole number under %q", f.Path, f.Key)
	}
	return int(n), nil
}

func (p *Prober) document(ctx context.Context, path string) (doc any, err error) {
	if doc, known := p.documents[path]; known {
		return doc, nil
	}
	a, err := p.Get(ctx, path, maxJSONBody)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if err := p.unauthorized(path, a); err != nil {
		return nil, err
	}
	if a.Status != http.StatusOK {
		return nil, fmt.Errorf("cannot read %s: the engine answers %s", path, a)
	}
	if err := json.Unmarshal(a.Body, &doc); err != nil {
		return nil, fmt.Errorf("cannot read %s: not JSON: %w", path, err)
	}
	p.documents[path] = doc
	return doc, nil
}

// LookUp follows a Field's key through a JSON document; nil when it leads nowhere.
func LookUp(doc any, key string) any {
	for step := range strings.SplitSeq(key, ".") {
		switch in := doc.(type) {
		case map[string]any:
			doc = in[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			doc = in[i]
		default:
			return nil
		}
	}
	return doc
}

// ErrNotServed says that an engine does not serve a page, and will not.
var ErrNotServed = errors.New("it is not served")

// SumWhere asks for a list and sums up the numbers under a key of those of its elements in which another key is true.
func (p *Prober) SumWhere(ctx context.Context, path, where, key string) (sum int, err error) {
	a, err := p.Get(ctx, path, maxJSONBody)
	switch {
	case err != nil:
		return 0, err
	case a.Status == http.StatusNotFound || a.Status == http.StatusNotImplemented:
		return 0, ErrNotServed
	case a.Status != http.StatusOK:
		return 0, fmt.Errorf("cannot read %s: the engine answers %s", path, a)
	}
	var list []any
	if err := json.Unmarshal(a.Body, &list); err != nil {
		return 0, fmt.Errorf("cannot read %s: not a list in JSON: %w", path, err)
	}
	for _, element := range list {
		if n, ok := LookUp(element, key).(float64); ok && LookUp(element, where) == true && n >= 0 && n < 1<<31 {
			sum += int(n)
		}
	}
	return sum, nil
}

// UnansweredError says that an engine gave no answer, which can be different the next time.
type UnansweredError struct {
	Page string
	err  error
}

func (e *UnansweredError) Error() string { return e.err.Error() }
func (e *UnansweredError) Unwrap() error { return e.err }

// MetricsPage asks for a metrics page.
func (p *Prober) MetricsPage(ctx context.Context, path string) ([]byte, error) {
	a, err := p.Get(ctx, path, MaxMetricsBody)
	refused := p.unauthorized(path, a)
	switch {
	case err != nil:
		return nil, &UnansweredError{path, fmt.Errorf("cannot read %s: %w", path, err)}
	case refused != nil:
		return nil, refused
	case a.Status == http.StatusNotImplemented:
		return nil, fmt.Errorf("%s is switched off in the engine (501); start it with its metrics flag", path)
	case a.Status == http.StatusNotFound:
		return nil, fmt.Errorf("%s does not exist (404); this engine or version has no metrics there", path)
	case a.Status != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s", path, a)
	}
	return a.Body, nil
}

// CheckMetrics asks for a metrics page that must be valid and have the required series.
func (p *Prober) CheckMetrics(ctx context.Context, path string, required []string) error {
	page, err := p.MetricsPage(ctx, path)
	if err != nil {
		return err
	}
	sums, err := exposition.Sums(page)
	if err != nil {
		return fmt.Errorf("%s is not valid Prometheus text: %w", path, err)
	}
	var missing []string
	for _, name := range required {
		if _, there := sums[name]; !there {
			missing = append(missing, strconv.Quote(name))
		}
	}
	if missing != nil {
		return fmt.Errorf("%s lacks the series %s", path, strings.Join(missing, ", "))
	}
	return nil
}

// unaskedPause is the time until a question is put again that did not get out of here.
const unaskedPause = 250 * time.Millisecond

// Token is a question for one token.
type Token struct {
	Path, Body string
	Must       bool           // a 4xx is a failure
	Garbled    *regexp.Regexp // finds the error of an engine that has computed a token; nil where none says so
}

// AskToken has the engine produce one token. It reports whether the model offers completions at all: embedding models
// and rerankers refuse with a 4xx, which is no failure unless it must answer. The question takes as long as ctx allows: a
// first token on a CPU can take longer than any probe. It is put again where it did not get out of here.
func (p *Prober) AskToken(ctx context.Context, token Token) (offered bool, err error) {
	patient := *p.Client
	patient.Timeout = 0
	var a Answer
	var unasked error
	for again := true; again; {
		req, wrong := p.request(ctx, http.MethodPost, token.Path, token.Body)
		if wrong != nil {
			return false, wrong
		}
		if a, err = p.do(&patient, req, maxJSONBody); !Unasked(err) {
			break
		}
		unasked = err
		select {
		case <-ctx.Done():
			again = false
		case <-time.After(unaskedPause):
		}
	}
	refused := p.unauthorized(token.Path, a)
	switch {
	case ctx.Err() != nil && unasked != nil: // it had a part of the time at most
		return false, fmt.Errorf("%w: %w", context.Cause(ctx), unasked)
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case err != nil:
		return false, fmt.Errorf("the connection broke on the first token: %w", err)
	case a.Status >= 200 && a.Status < 300:
		return true, nil
	case refused != nil: // says nothing of the model
		return false, refused
	case a.Status >= 400 && a.Status < 500 && !token.Must:
		return false, nil
	case a.Status == http.StatusNotImplemented: // of some versions of vLLM
		return false, nil
	case token.Garbled != nil && token.Garbled.Match(a.Body):
		return true, nil
	default:
		return false, fmt.Errorf("the first token failed: %s answers %s", token.Path, a)
	}
}
