package probe

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// maxLabels is several times what engines use. The parser compares each label with all before it: a line of 150 kB with
// 16000 labels took it 15 s.
const maxLabels = 128

// maxSamples bounds the time that the parser takes (8 MiB of the shortest lines took 12 s); engines have a few hundred.
const maxSamples = 50_000

// Sums parses a Prometheus text page and returns its series by name, each with its sum over all labels (0 for
// histograms and summaries). What is announced by HELP or TYPE alone, without a sample, is no series.
func Sums(page []byte) (map[string]float64, error) {
	if lines := bytes.Count(page, []byte("\n")); lines > 2*maxSamples {
		return nil, fmt.Errorf("the page has %d lines; at most %d are read", lines, 2*maxSamples)
	}
	for line := range bytes.Lines(page) {
		if labels := (bytes.Count(line, []byte(`"`)) - bytes.Count(line, []byte(`\"`))) / 2; labels > maxLabels && line[0] != '#' {
			return nil, fmt.Errorf("a series has about %d labels; at most %d are read", labels, maxLabels)
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return nil, err
	}
	if len(families) == 0 {
		return nil, errors.New("no series on the page")
	}
	sums := make(map[string]float64, len(families))
	for name, family := range families {
		sums[name] = 0
		for _, m := range family.GetMetric() {
			sums[name] += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return sums, nil
}

// Series are some of the series on a metrics page.
type Series struct {
	Path  string // of the page
	Names []string
}

// RequestsOn is how many requests the page tells of.
func RequestsOn(page []byte, g Series) (int, error) {
	sums, err := Sums(page)
	if err != nil {
		return 0, fmt.Errorf("%s is not valid Prometheus text: %w", g.Path, err)
	}
	total := 0.0
	for _, name := range g.Names {
		value, there := sums[name]
		if !there {
			return 0, fmt.Errorf("%s lacks the series %q", g.Path, name)
		}
		total += value
	}
	if !(total >= 0 && total <= math.MaxInt32) { // NaN, too
		return 0, fmt.Errorf("%s tells of %v requests", g.Path, total)
	}
	return int(math.Ceil(total)), nil
}

// WorkOn is how much work the page tells of; negative when it tells of none.
func WorkOn(page []byte, c Series) float64 {
	sums, err := Sums(page)
	if err != nil {
		return -1
	}
	total, counted := 0.0, false
	for _, name := range c.Names {
		value, there := sums[name]
		total, counted = total+value, counted || there
	}
	if !counted || !(total >= 0) { // NaN, too
		return -1
	}
	return total
}
