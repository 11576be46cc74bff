package exposition

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// manyLabels are n labels with different names.
func manyLabels(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "l%d=\"\",", i)
	}
	return b.String()
}

func TestMetricNamesOfPages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		page string
		want []string // nil: an error
	}{
		"one sample":         {"up 1\n", []string{"up"}},
		"no value":           {"up\n", nil},
		"no last newline":    {"up 1", nil}, // half a page, it may be
		"empty":              {"", nil},
		"comments alone":     {"# hello\n# HELP up Whether.\n# TYPE up gauge\n", nil},
		"a name alone":       {"# TYPE a counter\n# TYPE b gauge\nb 1\n", []string{"b"}},
		"labels":             {"vllm:num_requests_running{model_name=\"m \\\"1\\\"\",engine=\"0\"} 0.0\n", []string{"vllm:num_requests_running"}},
		"histogram":          {"# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n", []string{"h"}},
		"NaN":                {"a NaN\nb +Inf\n", []string{"a", "b"}},
		"twice the same":     {"a{x=\"1\"} 1\na{x=\"2\"} 1\n", []string{"a"}},
		"HTML":               {"<html><body>It works!</body></html>\n", nil},
		"JSON":               {`{"error":{"code":501}}` + "\n", nil},
		"cut in the middle":  {"a 1\nb{x=\"", nil},
		"no number":          {"a one\n", nil},
		"NUL":                {"a\x00 1\n", nil},
		"invalid UTF-8":      {"a{x=\"\xff\"} 1\n", nil},
		"long name":          {strings.Repeat("a", 1<<16) + " 1\n", []string{strings.Repeat("a", 1<<16)}},
		"time":               {"a 1 1700000000000\n", []string{"a"}},
		"many labels":        {"a{" + manyLabels(1<<16) + "} 1\n", []string{"a"}}, // Prometheus' own reader takes minutes
		"quotes in a value":  {"a{x=\"" + strings.Repeat(`\"`, 1<<16) + "\"} 1\n", []string{"a"}},
		"quotes in a help":   {"# HELP a " + strings.Repeat(`"`, 1000) + "\na 1\n", []string{"a"}},
		"exemplars are none": {"a 1 # {trace=\"x\"} 1\n", nil},
		"a name in quotes":   {"{\"a b\",x=\"1\"} 1\n", []string{"a b"}},
		"no name":            {"{x=\"1\"} 1\n", nil},
		"a label twice":      {"a{x=\"1\",x=\"2\"} 1\n", nil},
		"two types":          {"# TYPE a gauge\n# TYPE a counter\na 1\n", nil},
		"no such type":       {"# TYPE a thing\na 1\n", nil},
		"type after sample":  {"a 1\n# TYPE a counter\n", nil},
		"lines of Windows":   {"a 1\r\n", nil},
	} {
		names, err := Sums([]byte(c.page))
		if (err != nil) != (c.want == nil) || len(names) != len(c.want) ||
			slices.ContainsFunc(c.want, func(name string) bool { _, there := names[name]; return !there }) {
			t.Errorf("%s: %.100v (%v), want %.100q", name, names, err, c.want)
		}
	}
}

// FuzzMetricNames holds that no page makes the parser panic, and that a page that is accepted has series.
func FuzzMetricNames(f *testing.F) {
	page, err := os.ReadFile(filepath.Join("..", "..", "testdata", "metrics", "llama-server.txt")) // of a real one
	if err != nil {
		f.Fatal(err)
	}
	f.Add(page)
	for _, seed := range []string{
		"", "up 1\n", "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n", "# TYPE s summary\ns{quantile=\"0.5\"} 1\n",
		"a{x=\"\\n\\\\\\\"\"} NaN 5\n", "{\"quoted name\",x=\"1\"} 1\n", "# HELP a b\n# TYPE a untyped\na 1e309\n", "a{", "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, page []byte) {
		names, err := Sums(page)
		if (err == nil) != (len(names) > 0) {
			t.Errorf("%q: %v (%v)", page, names, err)
		}
		for name := range names {
			if name == "" || !utf8.ValidString(name) {
				t.Errorf("%q: series %q", page, name)
			}
		}
	})
}
