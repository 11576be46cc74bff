package provisioner

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// field reads a text from a JSON document that the engine serves. Each document is asked for once.
func (p *prober) field(ctx context.Context, f engine.Field) (string, error) {
	doc, err := p.document(ctx, f.Path)
	if err != nil {
		return "", err
	}
	text, ok := lookUp(doc, f.Key).(string)
	if !ok {
		return "", fmt.Errorf("cannot read %s: no text under %q", f.Path, f.Key)
	}
	return tail.Clean(text), nil
}

// count is field for a whole number.
func (p *prober) count(ctx context.Context, f engine.Field) (int, error) {
	doc, err := p.document(ctx, f.Path)
	if err != nil {
		return 0, err
	}
	n, ok := lookUp(doc, f.Key).(float64)
	if !ok || n != float64(int32(n)) {
		return 0, fmt.Errorf("cannot read %s: no whole number under %q", f.Path, f.Key)
	}
	return int(n), nil
}

func (p *prober) document(ctx context.Context, path string) (doc any, err error) {
	if doc, known := p.documents[path]; known {
		return doc, nil
	}
	a, err := p.get(ctx, path, maxJSONBody)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if err := p.unauthorized(path, a); err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("cannot read %s: the engine answers %s", path, a)
	}
	if err := json.Unmarshal(a.body, &doc); err != nil {
		return nil, fmt.Errorf("cannot read %s: not JSON: %w", path, err)
	}
	p.documents[path] = doc
	return doc, nil
}

// lookUp follows a Field's key through a JSON document; nil when it leads nowhere.
func lookUp(doc any, key string) any {
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

// unansweredError says that an engine gave no answer, which can be different the next time.
type unansweredError struct {
	page string
	err  error
}

func (e *unansweredError) Error() string { return e.err.Error() }
func (e *unansweredError) Unwrap() error { return e.err }

// metricsPage asks for a metrics page.
func (p *prober) metricsPage(ctx context.Context, path string) ([]byte, error) {
	a, err := p.get(ctx, path, maxMetricsBody)
	refused := p.unauthorized(path, a)
	switch {
	case err != nil:
		return nil, &unansweredError{path, fmt.Errorf("cannot read %s: %w", path, err)}
	case refused != nil:
		return nil, refused
	case a.status == http.StatusNotImplemented:
		return nil, fmt.Errorf("%s is switched off in the engine (501); start it with its metrics flag", path)
	case a.status == http.StatusNotFound:
		return nil, fmt.Errorf("%s does not exist (404); this engine or version has no metrics there", path)
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s", path, a)
	}
	return a.body, nil
}

// checkMetrics asks for the metrics page and holds it against its contract.
func (p *prober) checkMetrics(ctx context.Context, contract engine.MetricsContract) error {
	page, err := p.metricsPage(ctx, contract.Path)
	if err != nil {
		return err
	}
	sums, err := metricSums(page)
	if err != nil {
		return fmt.Errorf("%s is not valid Prometheus text: %w", contract.Path, err)
	}
	var missing []string
	for _, name := range contract.Required {
		if _, there := sums[name]; !there {
			missing = append(missing, strconv.Quote(name))
		}
	}
	if missing != nil {
		return fmt.Errorf("%s lacks the series %s", contract.Path, strings.Join(missing, ", "))
	}
	return nil
}

// unaskedPause is the time until a question is put again that did not get out of here.
const unaskedPause = 250 * time.Millisecond

// askToken has the engine produce one token. It reports whether the model offers completions at all: embedding models
// and rerankers refuse with a 4xx, which is no failure unless it must answer. The question takes as long as ctx allows: a
// first token on a CPU can take longer than any probe. It is put again where it did not get out of here.
func (p *prober) askToken(ctx context.Context, question engine.AnswerRequest, must bool) (offered bool, err error) {
	patient := *p.client
	patient.Timeout = 0
	var a answer
	for {
		req, wrong := p.request(ctx, http.MethodPost, question.Path, question.Body)
		if wrong != nil {
			return false, wrong
		}
		if a, err = p.do(&patient, req, maxJSONBody); !unasked(err) {
			break
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(unaskedPause):
		}
	}
	refused := p.unauthorized(question.Path, a)
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case err != nil:
		return false, fmt.Errorf("the connection broke on the first token: %w", err)
	case a.status >= 200 && a.status < 300:
		return true, nil
	case refused != nil: // says nothing of the model
		return false, refused
	case a.status >= 400 && a.status < 500 && !must:
		return false, nil
	case a.status == http.StatusNotImplemented: // of some versions of vLLM
		return false, nil
	default:
		return false, fmt.Errorf("the first token failed: %s answers %s", question.Path, a)
	}
}
