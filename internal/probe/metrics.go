package probe

import (
	"fmt"
	"math"

	"github.com/llama-orch/engine-provisioner/internal/exposition"
)

// Series are some of the series on a metrics page.
type Series struct {
	Path  string // of the page
	Names []string
}

// RequestsOn is how many requests the page tells of.
func RequestsOn(page []byte, g Series) (int, error) {
	sums, err := exposition.Sums(page)
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
	sums, err := exposition.Sums(page)
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
