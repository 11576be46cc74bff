package strictyaml

import (
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

type outer struct {
	Name  string           `json:"name"`
	Count int              `json:"count"`
	On    bool             `json:"on"`
	List  []string         `json:"list"`
	Map   map[string]inner `json:"map"`
	Ptr   *inner           `json:"ptr"`
	Skip  string           `json:"-"`
	embedded
}

type embedded struct {
	Flat string `json:"flat"`
}

type inner struct {
	A string `json:"a"`
}

func TestDecode(t *testing.T) {
	t.Parallel()
	const file = `name: n
count: -3
on: True
list: &l [a, "1", 'off', yes, 2020-01-01, "é\u00e9"]
map: {x: {a: &v one}, "y z": {a: *v}}
ptr: {a: two}
flat: three
`
	var got outer
	positions, problems := Decode([]byte(file), &got, nil)
	want := outer{
		Name: "n", Count: -3, On: true, List: []string{"a", "1", "off", "yes", "2020-01-01", "éé"},
		Map: map[string]inner{"x": {"one"}, "y z": {"one"}}, Ptr: &inner{"two"}, embedded: embedded{"three"},
	}
	if len(problems) > 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v with %v\nwant %+v", got, problems, want)
	}
	for key, at := range map[string]Position{
		"": {1, 1}, "count": {2, 8}, "list[2]": {4, 19}, `map["y z"].a`: {5, 34}, "flat": {7, 7},
	} {
		if positions[key] != at {
			t.Errorf("%q stands at %v, want %v", key, positions[key], at)
		}
	}
}

func TestDecodeJSON(t *testing.T) {
	t.Parallel()
	const file = "{\n\t\"name\" : \"\\ud83d\\ude00\\/ \x7f\",\n  \"é\": 1, \"list\": [\"a\",\n\"b\", 3],\n\"name\": \"again\"\n}\n"
	var got outer
	positions, problems := Decode([]byte(file), &got, nil)
	if got.Name != "😀/ \x7f" || positions["list[1]"] != (Position{4, 1}) {
		t.Errorf("got %+v at %v", got, positions)
	}
	want := []string{
		`3:3: ["é"]: unknown key "é"; the keys here are name, count, on, list, map, ptr, flat`,
		`4:6: list[2]: must be text, is a number; put it in quotes`,
		`5:1: name: is set twice, first on line 2; remove one`,
	}
	if texts := lines(problems); !reflect.DeepEqual(texts, want) {
		t.Errorf("got  %q\nwant %q", texts, want)
	}
}

func lines(problems []Problem) []string {
	var texts []string
	for _, p := range problems {
		texts = append(texts, fmt.Sprintf("%d:%d: %s: %s", p.Line, p.Column, p.Key, p.Message))
	}
	return texts
}

// TestHostileDocuments must end soon and with a problem, whatever it is. What counts is this process's CPU time, since
// other programs can stretch any other by as much as they like; so nothing runs in parallel.
func TestHostileDocuments(t *testing.T) {
	const mib = 1 << 20
	bomb := "a0: &a0 [x]\n"
	for i := 1; i < 30; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10))
	}
	for name, file := range map[string]string{
		"cycle":              "map: &m {x: *m}\n",
		"list cycle":         "list: &l [*l]\n",
		"bomb":               bomb + "list: *a29\n",
		"open lists":         strings.Repeat("[", mib),
		"lists at the limit": strings.Repeat("[", maxBrackets) + strings.Repeat("a,", mib/3),
		"open blocks":        strings.Repeat("{a: ", mib/4),
		"nested JSON":        strings.Repeat(`{"a":`, mib/10) + "1" + strings.Repeat("}", mib/10),
		"nested sequence":    strings.Repeat("- ", mib/2),
		"question marks":     strings.Repeat("? ", mib/2),
		"long key":           strings.Repeat("k", mib),
		"many keys":          strings.Repeat("k:\n", mib/3),
		"many aliases":       "list: [&a x" + strings.Repeat(",*a", mib/3-10) + "]",
		"many spaces":        "name: 'a" + strings.Repeat(" \n", mib/3),
		"many comments":      strings.Repeat("# c\n", mib/5) + "x: 1",
		"nested indent":      indents(1000),
		"NUL":                "name: a\x00b",
		"UTF-16":             "\xff\xfen\x00",
		"only a BOM":         "\ufeff",
		"end mark":           "...",
		"directive":          "%YAML 9.9\n---\nname: a",
	} {
		t.Run(name, func(t *testing.T) {
			before := cpuTime(t)
			var got outer
			if _, problems := Decode([]byte(file), &got, nil); len(problems) == 0 {
				t.Error("no problem")
			}
			// Far above what is measured (2.6 s for the slowest with -race): a guard against quadratic growth.
			if took := cpuTime(t) - before; took > time.Minute {
				t.Errorf("took %s", took)
			} else {
				t.Logf("took %s", took)
			}
		})
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func indents(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
