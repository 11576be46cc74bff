package conformance

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

// promises looks whether the pages that an engine's description names are there. The provisioner is lenient with them: an
// answer that is refused may be a model of another kind, and a gauge that lacks is found by the drain that needs it.
func (l *launch) promises(t *testing.T, spec engine.LaunchSpec) {
	t.Helper()
	if a := spec.Answer; a != nil {
		resp, err := l.client().Post(l.p.Status().URL+a.Path, "application/json", strings.NewReader(a.Body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
			t.Errorf("LaunchSpec.Answer: %s is no path of completions: it answers %s", a.Path, resp.Status)
		}
	}
	if g := spec.Gauges; g != nil {
		l.onPage(t, "LaunchSpec.Gauges", g.Path, g.Names, true)
	}
	if c := spec.Counters; c != nil { // an engine may lack some of them
		l.onPage(t, "LaunchSpec.Counters", c.Path, c.Names, false)
	}
}

// onPage looks for series on a metrics page: all of them, or any.
func (l *launch) onPage(t *testing.T, what, path string, names []string, all bool) {
	t.Helper()
	resp, err := l.client().Get(l.p.Status().URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s answers %s (%v)", what, path, resp.Status, err)
		return
	}
	var absent []string
	for _, name := range names {
		if !sampleOf(name).Match(page) {
			absent = append(absent, name)
		}
	}
	if all && len(absent) > 0 || len(absent) == len(names) {
		t.Errorf("%s: %s does not have %q", what, path, absent)
	}
}
