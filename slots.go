package provisioner

import (
	"context"
	"strconv"
	"strings"
)

// slots is how many requests the engine computes at once; 0 where nobody tells. It is worth no failure.
func (s LaunchSpec) slots(ctx context.Context, ask *prober) int {
	if s.SlotsAt != (Field{}) {
		if n, err := ask.count(ctx, s.SlotsAt); err == nil && n > 0 {
			return n
		}
	}
	return s.Slots
}

// count is the number that the user says on a subject, else the default's if it is a number; 0 when there is none above 0.
func (m *flagMerge) count(subject string) int {
	text := m.said(subject)
	for _, f := range m.defaults {
		if text == "" && len(f.Args) == 2 && strings.TrimPrefix(f.Args[0], "--") == subject {
			text = f.Args[1]
		}
	}
	n, _ := strconv.Atoi(text)
	return max(n, 0)
}
