package provisioner

import (
	"bytes"
	"errors"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metricNames parses a Prometheus text page and returns the names of its series. What is announced by HELP or TYPE
// alone, without a sample, is no series.
func metricNames(page []byte) (map[string]bool, error) {
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
