//go:build linux

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// The picture is well-formed and has a curve for each starter and crowd in each panel.
func TestDraw(t *testing.T) {
	t.Parallel()
	var points []point
	for _, f := range crowds {
		for _, n := range sizes {
			x := life{start: loads + time.Duration(n)*time.Millisecond, stop: time.Duration(n) * time.Millisecond}
			points = append(points, point{n, f, pair{x, life{}}})
		}
	}
	curves := 0
	for d := xml.NewDecoder(strings.NewReader(draw(points))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			curves++
		}
	}
	if want := len(panels) * len(crowds) * 2; curves != want {
		t.Errorf("%d curves, want %d", curves, want)
	}
}

func TestTick(t *testing.T) {
	t.Parallel()
	for highest, want := range map[float64]float64{0: 1, 1: 0.2, 4.2: 1, 7: 2, 33: 10, 0.012: 0.005} {
		if got := tick(highest); got != want {
			t.Errorf("tick(%v) = %v, want %v", highest, got, want)
		}
	}
}

// A figure above its aim is told as missed.
func TestTable(t *testing.T) {
	t.Parallel()
	got := table([]row{
		ratio("start", 13*time.Millisecond, 10*time.Millisecond, 1.3),
		ratio("stop", 16*time.Millisecond, 10*time.Millisecond, 1.5),
		atMost("crash", 31*time.Millisecond, time.Millisecond, 30*time.Millisecond),
		growth("CPU", 12*time.Millisecond, time.Millisecond, 10*time.Millisecond, 1.2),
	})
	want := `| What | Ours | Bare starter | Aim | Met |
|---|---|---|---|---|
| start | 13.0 ms, 1.30 × | 10.0 ms | ≤ 1.3 × bare | yes |
| stop | 16.0 ms, 1.60 × | 10.0 ms | ≤ 1.5 × bare | **no** |
| crash | 31.0 ms | 1.0 ms | ≤ 30 ms | **no** |
| CPU | 12.0 ms, 1.20 × | 1.0 ms | ≤ 1.2 × that | yes |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	if got := median([]int{5, 1, 9, 3, 7}); got != 5 {
		t.Errorf("median is %d", got)
	}
}
