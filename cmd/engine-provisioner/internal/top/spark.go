package top

import (
	"math"
	"strings"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// unknown is a sample that nobody can tell.
var unknown = math.NaN()

// history is what a replica has done of late, a sample a look.
type history struct{ tokens, requests, memory []float64 }

func (h *history) add(s provisioner.Status) {
	tokens, requests, memory := unknown, unknown, unknown
	if u := s.Usage; u != nil {
		if u.TokenRate != nil {
			tokens = *u.TokenRate
		}
		if u.Running != nil {
			requests = float64(*u.Running)
			if u.Waiting != nil {
				requests += float64(*u.Waiting)
			}
		}
		if u.Processes > 0 {
			memory = float64(u.Memory)
		}
	}
	keep := func(all *[]float64, v float64) {
		*all = append(*all, v)
		*all = (*all)[max(0, len(*all)-samples):]
	}
	keep(&h.tokens, tokens)
	keep(&h.requests, requests)
	keep(&h.memory, memory)
}

var bars = []rune("▁▂▃▄▅▆▇█")

// spark draws the last values, as many as there are columns, between 0 and the largest of them. What is unknown is a gap.
func spark(values []float64, columns int) string {
	values = values[max(0, len(values)-columns):]
	most := 0.0
	for _, v := range values {
		if v > most { // which an unknown one is not
			most = v
		}
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", columns-len(values)))
	for _, v := range values {
		switch {
		case math.IsNaN(v):
			b.WriteByte(' ')
		case most <= 0 || v <= 0:
			b.WriteRune(bars[0])
		default:
			b.WriteRune(bars[min(len(bars)-1, int(v/most*float64(len(bars)-1)+0.5))])
		}
	}
	return b.String()
}
