// Package launchlog reads the logs of a replica's launches, one after the other, as they grow.
//
// Whoever shows them to people calls it. It finds them by their names, writes nothing, and knows no replica.
package launchlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// GrownSince is the oldest of the logs up to path that has grown since a time, or path where none has.
func GrownSince(path string, since time.Time) (string, error) {
	for {
		before, err := Neighbour(path, -1)
		if err != nil || before == "" {
			return path, err
		}
		if info, err := os.Stat(before); err != nil || info.ModTime().Before(since) {
			return path, nil //nolint:nilerr // what is removed just now is as old as what was removed before
		}
		path = before
	}
}

// PrintOn prints a log and those of the launches after it.
func (p *Printer) PrintOn(began func(launch int64)) error {
	for {
		if err := p.Print(true); err != nil {
			return err
		}
		next, err := Neighbour(p.path, 1)
		if err != nil || next == "" {
			return err
		}
		p.Close()
		if err := p.Open(next, -1); err != nil {
			return err
		}
		began(LaunchOf(next))
	}
}

// Neighbour is the log of the launch before (-1) or after (1) the one whose log path is; "" when there is none.
func Neighbour(path string, step int) (string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("cannot list the logs: %w", err)
	}
	own, nearest := LaunchOf(path), ""
	for _, entry := range entries {
		n := LaunchOf(entry.Name())
		if step < 0 && n >= own || step > 0 && n <= own || n == 0 {
			continue
		}
		if best := LaunchOf(nearest); best == 0 || step < 0 && n > best || step > 0 && n < best {
			nearest = filepath.Join(filepath.Dir(path), entry.Name())
		}
	}
	return nearest, nil
}

// LaunchOf is the number of the launch whose log path is, 0 for what is no log.
func LaunchOf(path string) int64 {
	text, isLog := strings.CutSuffix(filepath.Base(path), ".log")
	n, err := strconv.ParseInt(text, 10, 64)
	if !isLog || err != nil {
		return 0
	}
	return n
}

// Printer gives the logs of a replica to Write, line by line. It is for one goroutine.
type Printer struct {
	// Write gets each line, without control characters, and the launch that it is of.
	Write func(launch int64, line string) error

	path string
	log  io.Closer
	r    *bufio.Reader
	line strings.Builder
}

// Open begins a launch's log, at its last lines, or at its beginning when lines is negative.
func (p *Printer) Open(path string, lines int) error {
	log, err := tail.Follow(path, lines)
	if err != nil {
		return fmt.Errorf("cannot read the log: %w", err)
	}
	p.path, p.log, p.r = path, log, bufio.NewReaderSize(log, maxLogLine)
	return nil
}

// Close ends the log.
func (p *Printer) Close() { _ = p.log.Close() }

// maxLogLine is where a line without an end is cut: some engines log half a megabyte in one.
const maxLogLine = 64 << 10

// Print prints what is there. A last line without an end waits for the rest, unless the log is complete.
func (p *Printer) Print(complete bool) error {
	for {
		part, err := p.r.ReadSlice('\n')
		p.line.Write(part)
		ended := err == nil || p.line.Len() >= maxLogLine || errors.Is(err, io.EOF) && complete && p.line.Len() > 0
		if ended {
			if err := p.Write(LaunchOf(p.path), tail.Clean(p.line.String())); err != nil {
				return err
			}
			p.line.Reset()
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("cannot read the log: %w", err)
		}
	}
}

// Follow prints until ctx is done, one launch after the other, and calls began for each that begins.
func (p *Printer) Follow(ctx context.Context, began func(launch int64)) error {
	const (
		interval = 100 * time.Millisecond
		askEvery = 5 // intervals: for the next launch
	)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		next := ""
		if n%askEvery == 0 {
			next, _ = Neighbour(p.path, 1) // before the log is read, so that nothing of its end is missed
		}
		if err := p.Print(next != ""); err != nil {
			return err
		}
		if next != "" {
			p.Close()
			if err := p.Open(next, -1); err != nil {
				return err
			}
			began(LaunchOf(next))
			n = -1
			continue
		}
		select {
		case <-ctx.Done():
			return p.Print(true)
		case <-ticker.C:
		}
	}
}
