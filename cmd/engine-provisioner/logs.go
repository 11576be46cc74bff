package main

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

	"github.com/spf13/cobra"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

func (c *cli) logsCommand() *cobra.Command {
	var follow, previous bool
	lines := -1
	cmd := &cobra.Command{
		Use:   "logs [POOL/REPLICA]",
		Short: "Print the log of a replica's last launch",
		Long: `Print the log of a replica's last launch, without control characters.
With --follow it also prints what is added, and the replica's next launches, until it is interrupted (exit status 0).`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if follow && previous {
				return &usageError{err: errors.New("--follow and --previous exclude each other: an earlier launch has ended")}
			}
			status, _, err := c.one()
			if err != nil {
				return err
			}
			p := printer{w: c.std.out, pool: status.Pool, replica: status.Replica, json: c.output.json}
			path := status.Log
			if path == "" && status.Restarts != nil { // no launch has got so far
				return fmt.Errorf("%s has no log yet; it failed with: %s", p.name(), status.Restarts.Last)
			}
			if previous {
				if path, err = neighbour(path, -1); err == nil && path == "" {
					err = fmt.Errorf("cannot read the log: there is none of an earlier launch of %s", p.name())
				}
				if err != nil {
					return err
				}
			}
			if file := procfs.OpenMoved(status.PID, path); file != nil && !previous {
				defer file.Close()
				if name := procfs.NameOf(file); name != "" {
					c.say(fmt.Sprintf("note: the log %q was renamed to %q", path, name))
				} else {
					c.say(fmt.Sprintf("note: the log %q was removed; this is what the engine still holds of it, and it is lost when the engine ends", path))
				}
				path = fmt.Sprintf("/proc/self/fd/%d", file.Fd())
			}
			if err := p.open(path, lines); err != nil {
				return err
			}
			defer p.close()
			if !follow {
				return p.print(true)
			}
			return p.follow(cmd.Context(), func(launch int64) {
				if !p.json {
					fmt.Fprintf(c.std.err, "==> %s: launch %d\n", p.name(), launch)
				}
			})
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "also print what is added, and the next launches")
	cmd.Flags().BoolVar(&previous, "previous", false, "the log of the launch before the last one")
	cmd.Flags().VarP((*linesValue)(&lines), "lines", "n", "only this many lines from the end; -1 means all")
	return cmd
}

// linesValue is a number of lines, or -1.
type linesValue int

func (l *linesValue) Type() string   { return "number" }
func (l *linesValue) String() string { return strconv.Itoa(int(*l)) }

func (l *linesValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < -1 {
		return errors.New("write a number of lines, or -1 for all")
	}
	*l = linesValue(n)
	return nil
}

// neighbour is the log of the launch before (-1) or after (1) the one whose log path is; "" when there is none.
func neighbour(path string, step int) (string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("cannot list the logs: %w", err)
	}
	own, nearest := launchOf(path), ""
	for _, entry := range entries {
		n := launchOf(entry.Name())
		if step < 0 && n >= own || step > 0 && n <= own || n == 0 {
			continue
		}
		if best := launchOf(nearest); best == 0 || step < 0 && n > best || step > 0 && n < best {
			nearest = filepath.Join(filepath.Dir(path), entry.Name())
		}
	}
	return nearest, nil
}

// launchOf is the number of the launch whose log path is, 0 for what is no log.
func launchOf(path string) int64 {
	text, isLog := strings.CutSuffix(filepath.Base(path), ".log")
	n, err := strconv.ParseInt(text, 10, 64)
	if !isLog || err != nil {
		return 0
	}
	return n
}

// printer prints the logs of a replica line by line.
type printer struct {
	w             io.Writer
	pool, replica string
	json          bool
	path          string
	log           io.Closer
	r             *bufio.Reader
	line          strings.Builder
}

func (p *printer) name() string { return p.pool + "/" + p.replica }

// open begins a launch's log, at its last lines, or at its beginning when lines is negative.
func (p *printer) open(path string, lines int) error {
	log, err := tail.Follow(path, lines)
	if err != nil {
		return fmt.Errorf("cannot read the log: %w", err)
	}
	p.path, p.log, p.r = path, log, bufio.NewReaderSize(log, maxLogLine)
	return nil
}

func (p *printer) close() { _ = p.log.Close() }

// maxLogLine is where a line without an end is cut: some engines log half a megabyte in one.
const maxLogLine = 64 << 10

// print prints what is there. A last line without an end waits for the rest, unless the log is complete.
func (p *printer) print(complete bool) error {
	for {
		part, err := p.r.ReadSlice('\n')
		p.line.Write(part)
		ended := err == nil || p.line.Len() >= maxLogLine || errors.Is(err, io.EOF) && complete && p.line.Len() > 0
		if ended {
			if err := p.write(tail.Clean(p.line.String())); err != nil {
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

func (p *printer) write(line string) error {
	if !p.json {
		_, err := fmt.Fprintln(p.w, line)
		return err
	}
	return writeJSON(p.w, struct {
		Pool    string `json:"pool"`
		Replica string `json:"replica"`
		Launch  int64  `json:"launch"`
		Line    string `json:"line"`
	}{p.pool, p.replica, launchOf(p.path), line})
}

// follow prints until ctx is done, one launch after the other, and calls began for each that begins.
func (p *printer) follow(ctx context.Context, began func(launch int64)) error {
	const (
		interval = 100 * time.Millisecond
		askEvery = 5 // intervals: for the next launch
	)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		next := ""
		if n%askEvery == 0 {
			next, _ = neighbour(p.path, 1) // before the log is read, so that nothing of its end is missed
		}
		if err := p.print(next != ""); err != nil {
			return err
		}
		if next != "" {
			p.close()
			if err := p.open(next, -1); err != nil {
				return err
			}
			began(launchOf(next))
			n = -1
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
