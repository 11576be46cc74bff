// Package against holds our reader of metrics pages against that of Prometheus. It is a module of its own, so that nobody who
// imports the library needs Prometheus' module for it.
package against

import (
	"bytes"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/llama-orch/engine-provisioner/internal/exposition"
)

// theirs are the sums by Prometheus' reader.
func theirs(page []byte) (map[string]float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	sums := map[string]float64{}
	for name, family := range families {
		sums[name] = 0
		for _, m := range family.GetMetric() {
			sums[name] += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return sums, err
}

func same(a, b map[string]float64) bool {
	return maps.EqualFunc(a, b, func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) })
}

// Both read the same from the pages of real engines.
func TestRealPages(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../../testdata/metrics/*")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages (%v)", err)
	}
	for _, path := range pages {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := theirs(page)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := exposition.Sums(page); err != nil || !same(got, want) {
			t.Errorf("%s: %v (%v), want %v", path, got, err, want)
		}
	}
}

// part is a part of a line: right ones, and some that are wrong.
type part struct{ right, wrong []string }

func (p part) pick(r *rand.Rand) string {
	from := p.right
	if r.IntN(20) == 0 {
		from = p.wrong
	}
	return from[r.IntN(len(from))]
}

var (
	names  = part{[]string{"a", "b", "a:b_total", "h", "h_bucket", "h_sum", "h_count", "s", "s_sum", "s_count", "s_bucket", "_"}, []string{"9a", "", "ä"}}
	labels = part{
		[]string{
			"", "", "{}", "{ }", `{x="1"}`, `{x="1",}`, `{ x = "1" , y="2" }`, `{x="\"\\\n"}`, `{x="}"}`, `{"x y"="1"}`, `{x="ä"}`, `{le="+Inf"}`, `{quantile="0.5"}`,
		},
		[]string{`{x="1",x="2"}`, `{__name__="a"}`, `{x="\d"}`, `{x="1}`, `{x=1}`, `{x}`, `{x="1" y="2"}`, "{x=\"\xff\"}", `{,}`, `{"quoted"}`},
	}
	values   = part{[]string{"1", "0", "2.5", "1e3", "NaN", "+Inf", "-Inf"}, []string{"-1", "1e309", "0x1p4", "1_0", "one", ""}}
	ends     = part{[]string{"", "", "", " 1700000000000", " -5"}, []string{" 1.5", " # {}", " 1 2", " "}}
	comments = part{
		[]string{"# TYPE h histogram", "# TYPE s summary", "# HELP a What \\n is.", "# EOF", "#", "", "  ", "# TYPE a counter", "#\tTYPE  b  Untyped"},
		[]string{"# TYPE a thing", "# TYPE 1 gauge"},
	}
)

// What Prometheus' reader takes, ours takes, and makes the same of it. Some of what it refuses ours takes: a blank after a
// value, a second HELP.
func TestMadePages(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	taken, refused := 0, 0
	for range 30_000 {
		var page strings.Builder
		for range 1 + r.IntN(5) {
			line := comments.pick(r)
			if r.IntN(4) > 0 {
				line = names.pick(r) + labels.pick(r) + " " + values.pick(r) + ends.pick(r)
			}
			page.WriteString(line + "\n")
		}
		text := []byte(page.String())
		want, err := theirs(text)
		got, ours := exposition.Sums(text)
		switch {
		case err == nil && len(want) > 0:
			if taken++; ours != nil || !same(got, want) {
				t.Fatalf("%q: %v (%v), want %v", text, got, ours, want)
			}
		case ours != nil:
			refused++
		}
	}
	if taken < 5000 || refused < 5000 {
		t.Errorf("of the pages both took %d and refused %d: there is not enough to compare", taken, refused)
	}
}
