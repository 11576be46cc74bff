package provisioner

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// maxLabels is several times what engines use. The parser compares each label with all before it: a line of 150 kB with
// 16000 labels took it 15 s.
const maxLabels = 128

// maxSamples bounds the time that the parser takes (8 MiB of the shortest lines took 12 s); engines have a few hundred.
const maxSamples = 50_000

// metricNames parses a Prometheus text page and returns the names of its series. What is announced by HELP or TYPE
// alone, without a sample, is no series.
func metricNames(page []byte) (map[string]bool, error) {
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
	names := make(map[string]bool, len(families))
	for name := range families {
		names[name] = true
	}
	return names, nil
}
