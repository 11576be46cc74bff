//go:build linux

// Command testgpu holds what engine-provisioner takes for granted about NVIDIA GPUs against the real ones of this machine, and
// prints a table: each assumption, whether it held, and what was seen. scripts/test-gpu.sh builds what it needs and calls it.
//
//	testgpu -hold HOLD (-server LLAMA-SERVER | -source REPOSITORY) [-vulkan LLAMA-SERVER] [-rows 1,4]
//
// HOLD is a program that takes as many MiB of the first GPU's memory as its argument says, prints a line, and keeps them until
// it is ended. The exit status is 1 where an assumption did not hold, and 3 where nothing could be tried, or not
// all in time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(code)
}

// budget is less than the ten minutes that a borrowed machine may give to a command.
const budget = 9 * time.Minute

func run(ctx context.Context, args []string, out io.Writer) int {
	var t trial
	var only string
	flags := flag.NewFlagSet("testgpu", flag.ContinueOnError)
	flags.StringVar(&t.server, "server", "", "a llama-server with the backend for CUDA")
	flags.StringVar(&t.source, "source", "", "a git repository of llama.cpp, to build one from by mode source")
	flags.StringVar(&t.ref, "ref", "HEAD", "what of it to build")
	flags.StringVar(&t.cacheDir, "cache", "", "a folder that keeps the build; by default it is thrown away")
	flags.StringVar(&t.vulkan, "vulkan", "", "a llama-server with the backend for Vulkan")
	flags.StringVar(&t.hold, "hold", "", "a program that holds GPU memory")
	flags.StringVar(&only, "rows", "", "the numbers of the rows to try, such as 1,4; all of them by default")
	flags.BoolVar(&t.inNamespace, "in-namespace", false, "only start a replica, in the PID namespace that this process is in")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	t.args = args
	if err := t.open(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "testgpu:", err)
		return 3
	}
	defer t.close()
	if t.inNamespace {
		seen, err := inThisNamespace(ctx, &t)
		fmt.Fprintln(out, seen)
		if err != nil {
			fmt.Fprintln(out, err)
			return 1
		}
		return 0
	}
	return tell(out, try(ctx, &t, only))
}

// result is what became of an assumption.
type result struct {
	assumption
	seen string
	err  error
	took time.Duration
}

// errTime is why an assumption was not tried, or not to its end.
var errTime = errors.New("the time is over; what was built is kept for another call")

// errUnchecked is wrapped by what says why an assumption could not be tried here.
var errUnchecked = errors.New("not checked")

func unchecked(why string, args ...any) error {
	return fmt.Errorf("%w: %s", errUnchecked, fmt.Sprintf(why, args...))
}

func try(ctx context.Context, t *trial, only string) []result {
	var results []result
	for _, a := range assumptions {
		if only != "" && !slices.Contains(strings.Split(only, ","), strconv.Itoa(a.number)) {
			continue
		}
		began := time.Now()
		r := result{assumption: a}
		if ctx.Err() != nil {
			r.err = fmt.Errorf("%w: %w", errUnchecked, errTime)
		} else {
			fmt.Fprintf(os.Stderr, "testgpu: %d: %s\n", a.number, a.says)
			r.seen, r.err = a.check(ctx, t)
		}
		if r.err != nil && ctx.Err() != nil {
			r.err = fmt.Errorf("%w: %w", errUnchecked, errTime)
		}
		r.took = time.Since(began).Round(100 * time.Millisecond)
		results = append(results, r)
	}
	return results
}

func tell(out io.Writer, results []result) int {
	code, table := 0, tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "#\tassumption\tresult\ttook\tseen")
	for _, r := range results {
		word, seen := "held", r.seen
		switch {
		case errors.Is(r.err, errUnchecked):
			word, seen = "not checked", strings.TrimPrefix(r.err.Error(), errUnchecked.Error()+": ")
		case r.err != nil:
			word, code = "BROKEN", 1
			seen = strings.TrimSpace(r.seen + " " + r.err.Error())
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", r.number, r.says, word, r.took, strings.Join(strings.Fields(seen), " "))
	}
	_ = table.Flush()
	if code == 0 && slices.ContainsFunc(results, func(r result) bool { return errors.Is(r.err, errTime) }) {
		return 3
	}
	if !slices.ContainsFunc(results, func(r result) bool { return !errors.Is(r.err, errUnchecked) }) {
		fmt.Fprintln(out, "nothing was tried")
		return 3
	}
	return code
}
