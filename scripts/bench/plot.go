//go:build linux

package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// point is a fleet of so many replicas beside so many foreign processes.
type point struct {
	replicas, foreign int
	pair
}

// The growth curves go through these.
var (
	sizes  = []int{1, 10, 50, 100, most}
	crowds = []int{0, 500, foreign}
)

func curves(l *lab, samples int) ([]point, error) {
	defer l.setForeign(0)
	var all []point
	for _, f := range crowds {
		for _, n := range sizes {
			began := time.Now()
			both, err := l.lives(n, f, samples)
			if err != nil {
				return nil, err
			}
			note("curves: %d replicas, %d foreign processes: %v, %s", n, f, time.Since(began).Round(time.Second), machine())
			all = append(all, point{n, f, both})
		}
	}
	return all, nil
}

// panels are the figures that are drawn.
var panels = []struct {
	title string
	of    func(life) time.Duration
}{
	{"all ready, beyond the load of 1 s", func(x life) time.Duration { return max(0, x.start-loads) }},
	{"CPU of the starter, whole life", func(x life) time.Duration { return x.life }},
	{"recovery", func(x life) time.Duration { return x.recovery }},
	{"stop", func(x life) time.Duration { return x.stop }},
}

func pointsTable(points []point) string {
	var b strings.Builder
	b.WriteString("| Replicas | Foreign processes |")
	for _, p := range panels {
		b.WriteString(" " + strings.ToUpper(p.title[:1]) + p.title[1:] + ": ours, bare |")
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(panels)) + "\n")
	for _, p := range points {
		fmt.Fprintf(&b, "| %d | %d |", p.replicas, p.foreign)
		for _, panel := range panels {
			fmt.Fprintf(&b, " %s, %s |", text(panel.of(p.ours)), text(panel.of(p.bare)))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Measures of the picture, in pixels.
const (
	panelWidth, panelHeight = 200, 150
	gapX, gapY              = 60, 56
	marginX, marginY        = 56, 40
)

// colors are those of the crowds; the bare starter's curves are dashed.
var colors = []string{"#1b6ca8", "#2f8f4e", "#c0392b"}

// draw is the points as a picture, in SVG.
func draw(points []point) string {
	var b strings.Builder
	columns := len(panels)
	width, height := marginX+columns*(panelWidth+gapX), marginY+panelHeight+gapY+20
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for i, panel := range panels {
		drawPanel(&b, float64(marginX+i*(panelWidth+gapX)), marginY, panel.title, panel.of, points)
	}
	x := marginX
	for i, f := range crowds {
		for _, dash := range []string{"", "4 3"} {
			who := "ours"
			if dash != "" {
				who = "bare"
			}
			fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`, x, height-14, x+24, height-14, colors[i], dash)
			fmt.Fprintf(&b, `<text x="%d" y="%d">%s, %d foreign</text>`+"\n", x+30, height-10, who, f)
			x += 160
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func drawPanel(b *strings.Builder, x, y float64, title string, of func(life) time.Duration, points []point) {
	highest, widest := 0.0, 0
	for _, p := range points {
		highest = max(highest, of(p.ours).Seconds(), of(p.bare).Seconds())
		widest = max(widest, p.replicas)
	}
	step := tick(highest)
	top := math.Max(step, math.Ceil(highest/step)*step)
	at := func(replicas int, seconds float64) (float64, float64) {
		return x + panelWidth*float64(replicas)/float64(widest), y + panelHeight*(1-seconds/top)
	}
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" font-weight="bold">%s</text>`+"\n", x, y-14, title)
	for v := 0.0; v <= top*1.001; v += step {
		_, h := at(0, v)
		fmt.Fprintf(b, `<line x1="%.0f" y1="%.1f" x2="%.0f" y2="%.1f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%.3g s</text>`+"\n", x, h, x+panelWidth, h, x-4, h+4, v)
	}
	for _, n := range sizes[1:] {
		w, _ := at(n, 0)
		fmt.Fprintf(b, `<text x="%.1f" y="%.0f" text-anchor="middle">%d</text>`, w, y+panelHeight+14, n)
	}
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="middle">replicas</text>`+"\n", x+panelWidth/2, y+panelHeight+28)
	for i, f := range crowds {
		for _, curve := range []struct {
			dash string
			of   func(point) life
		}{{"4 3", func(p point) life { return p.bare }}, {"", func(p point) life { return p.ours }}} {
			var line []string
			for _, p := range points {
				if p.foreign == f {
					w, h := at(p.replicas, of(curve.of(p)).Seconds())
					line = append(line, fmt.Sprintf("%.1f,%.1f", w, h))
				}
			}
			fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5" stroke-dasharray="%s"/>`+"\n", strings.Join(line, " "), colors[i], curve.dash)
		}
	}
}

// tick is the distance of the lines of a scale: 1, 2 or 5 times a power of ten, so that there are about five.
func tick(highest float64) float64 {
	if highest <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(highest/4)))
	for _, f := range []float64{1, 2, 5} {
		if highest/(f*power) <= 5 {
			return f * power
		}
	}
	return 10 * power
}
