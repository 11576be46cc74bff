package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

func (c *cli) logsCommand() *cobra.Command {
	var follow bool
	lines := -1
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Print the log of a replica's last launch",
		Long: `Print the log of a replica's last launch, without control characters.
With --follow, it goes on until the engine has ended, or until it is interrupted, which is no failure.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, stateDir, err := c.one()
			if err != nil {
				return err
			}
			f, err := os.Open(status.Log)
			if err != nil {
				return fmt.Errorf("cannot read the log: %w", err)
			}
			defer f.Close()
			p := printer{w: c.std.out, r: bufio.NewReader(f)}
			if c.output.json {
				p.pool, p.replica = status.Pool, status.Replica
			}
			if lines >= 0 {
				if err := skipTo(f, lines); err != nil {
					return fmt.Errorf("cannot read the log: %w", err)
				}
			}
			if !follow {
				return p.print(true)
			}
			return p.follow(cmd.Context(), func() bool { return running(stateDir, status) })
		},
	}
	c.chooseFlags(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the log grows")
	cmd.Flags().VarP((*linesValue)(&lines), "lines", "n", "only so many lines of the end; -1 means all")
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

// running tells whether the launch that status is about has not ended.
func running(stateDir string, status provisioner.Status) bool {
	all, _ := provisioner.Statuses(stateDir)
	for _, s := range all {
		if s.LaunchID == status.LaunchID {
			return !s.State.Final()
		}
	}
	return false
}

// printer prints a log line by line.
type printer struct {
	w             io.Writer
	r             *bufio.Reader
	pool, replica string // set for JSON
	line          strings.Builder
}

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
	if p.replica == "" {
		_, err := fmt.Fprintln(p.w, line)
		return err
	}
	return writeJSON(p.w, struct {
		Pool    string `json:"pool"`
		Replica string `json:"replica"`
		Line    string `json:"line"`
	}{p.pool, p.replica, line})
}

// follow prints until running says no and everything is printed, or ctx is done.
func (p *printer) follow(ctx context.Context, running func() bool) error {
	const (
		interval = 100 * time.Millisecond
		askEvery = 5 // intervals: asking looks at processes
	)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		ended := n%askEvery == 0 && !running() // before the log is read, so that nothing after it is missed
		if err := p.print(ended); err != nil || ended {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// skipTo moves f to the beginning of its last n lines.
func skipTo(f *os.File, n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	buf := make([]byte, 32<<10)
	for at := end; at > 0; {
		size := min(at, int64(len(buf)))
		at -= size
		if _, err := f.ReadAt(buf[:size], at); err != nil {
			return err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || at+i == end-1 { // the newline at the very end begins no line
				continue
			}
			if n--; n == 0 {
				_, err := f.Seek(at+i+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
