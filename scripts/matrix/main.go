// Command matrix prints what the tests have shown of each engine, as a table in Markdown, from the events of "go test -json".
//
//	go run ./scripts/matrix [-o FILE] [VERSION=]EVENTS...
//
// A test says by attributes what it has shown: "engine", "version" and "proves", a list of columns. One that has failed proves nothing.
// VERSION is that of an engine that does not know its own. With -o, the table takes the place of the one between the marks in FILE.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

var columns = []string{"start", "ready", "token", "metrics", "drain", "stop", "crash", "adopt"}

// event is what of a line of "go test -json" matters here.
type event struct {
	Time       time.Time
	Action     string
	Test       string
	Key, Value string
}

// row is what is known of one build of an engine.
type row struct {
	engine, version string
	real            bool
	proves          map[string]bool
	last            time.Time
}

// test is one that has not ended, or has.
type test struct {
	attributes map[string]string
	passed     bool
	at         time.Time
}

// read collects the rows of a file of events.
func read(in io.Reader, version string, rows map[string]*row) error {
	tests := map[string]*test{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // what a build says
		}
		t := tests[e.Test]
		if t == nil {
			t = &test{attributes: map[string]string{}}
			tests[e.Test] = t
		}
		switch e.Action {
		case "attr":
			t.attributes[e.Key] = e.Value
		case "pass":
			t.passed, t.at = true, e.Time
		}
	}
	for name, t := range tests {
		proves := t.attributes["proves"]
		if proves == "" || !t.passed {
			continue
		}
		r := row{engine: t.attributes["engine"], version: t.attributes["version"], real: strings.HasPrefix(name, "TestReal") || strings.Contains(name, "real")}
		if version != "" && r.real {
			r.version = version
		}
		key := fmt.Sprint(r.engine, r.version, r.real)
		if rows[key] == nil {
			r.proves = map[string]bool{}
			rows[key] = &r
		}
		for what := range strings.SplitSeq(proves, ",") {
			if !slices.Contains(columns, what) {
				return fmt.Errorf("%s proves %q, which is no column", name, what)
			}
			rows[key].proves[what] = true
		}
		if t.at.After(rows[key].last) {
			rows[key].last = t.at
		}
	}
	return lines.Err()
}

// table writes rows, of each engine the real ones first.
func table(rows map[string]*row) string {
	all := make([]*row, 0, len(rows))
	for _, r := range rows {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *row) int {
		rank := func(r *row) string { return fmt.Sprint(r.engine, !r.real, r.version) }
		return strings.Compare(rank(a), rank(b))
	})
	var out strings.Builder
	fmt.Fprintf(&out, "| engine | version | how | %s | date |\n|---|---|---|%s---|\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, r := range all {
		how := "modelled"
		if r.real {
			how = "run for real"
		}
		fmt.Fprintf(&out, "| %s | %s | %s |", r.engine, r.version, how)
		for _, c := range columns {
			mark := "–"
			if r.proves[c] {
				mark = "yes"
			}
			fmt.Fprintf(&out, " %s |", mark)
		}
		fmt.Fprintf(&out, " %s |\n", r.last.UTC().Format(time.DateOnly))
	}
	return out.String()
}

const begin, end = "<!-- matrix -->\n", "<!-- end of the matrix -->"

// replace puts a table between the marks of a text.
func replace(text, table string) (string, error) {
	head, rest, ok := strings.Cut(text, begin)
	_, tail, more := strings.Cut(rest, end)
	if !ok || !more {
		return "", fmt.Errorf("there are no marks %q and %q", strings.TrimSpace(begin), end)
	}
	return head + begin + table + end + tail, nil
}

func run(file string, args []string) error {
	rows := map[string]*row{}
	for _, arg := range args {
		version, path, named := strings.Cut(arg, "=")
		if !named {
			version, path = "", arg
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := read(in, version, rows); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		in.Close()
	}
	if len(rows) == 0 {
		return fmt.Errorf("no test of %q has said what it proves", args)
	}
	if file == "" {
		_, err := fmt.Print(table(rows))
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	next, err := replace(string(text), table(rows))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(next), 0o600)
}

func main() {
	file := flag.String("o", "", "a Markdown file with the marks")
	flag.Parse()
	if err := run(*file, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}
