package footprint

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/report"
)

func line(keyed ...string) (flags []Flag) {
	for _, k := range keyed {
		key, args, _ := strings.Cut(k, "=")
		flags = append(flags, Flag{Key: key, Args: strings.Fields(args)})
	}
	return flags
}

func TestFlagDifferences(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		was, now []Flag
		want     []report.Difference
	}{
		"the same":    {line("flags[0]=-c 1", "=--x"), line("flags[0]=-c 1", "=--x"), nil},
		"other keys":  {line("flags[0]=-c 1"), line("=-c 1"), nil}, // who says it makes no other launch
		"other parts": {line("flags[0]=-c", "flags[1]=1"), line("flags[0]=-c 1"), nil},
		"a value": {
			line("flags[0]=-c 1", "flags[2]=-b 5"), line("flags[0]=-c 1", "flags[2]=-b 6"),
			[]report.Difference{{Key: "flags[2]", Was: "-b 5", Now: "-b 6"}},
		},
		"one more in front": {
			line("flags[0]=-c 1", "flags[2]=-b 5"), line("flags[0]=--new", "flags[1]=-c 1", "flags[3]=-b 5"),
			[]report.Difference{{Key: "flags[0]", Why: "added", Now: "--new"}},
		},
		"one less": {
			line("flags[0]=-c 1", "flags[2]=-b 5"), line("flags[0]=-b 5"),
			[]report.Difference{{Key: "flags[0]", Why: "removed", Was: "-c 1"}},
		},
		"one twice": {
			line("flags[0]=--lora a"), line("flags[0]=--lora a", "flags[2]=--lora a"),
			[]report.Difference{{Key: "flags[2]", Why: "added", Now: "--lora a"}},
		},
		"in another order": {
			line("flags[0]=-a", "flags[1]=-b"), line("flags[0]=-b", "flags[1]=-a"),
			[]report.Difference{{Key: "flags", Why: "in another order"}},
		},
		"a default for a word of the user": {
			line("=--parallel 1", "port=--port 1"), line("flags[0]=--parallel 4", "port=--port 1"),
			[]report.Difference{{Key: "flags[0]", Why: "added", Now: "--parallel 4"}, {Key: "flags", Why: "removed", Was: "--parallel 1"}},
		},
		"one key in several parts": {
			line("model.id=--model a", "model.id=--mmproj b"), line("model.id=--model c", "model.id=--mmproj d"),
			[]report.Difference{{Key: "model.id", Was: "--model a --mmproj b", Now: "--model c --mmproj d"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := (Footprint{Flags: c.was}).Differences(Footprint{Flags: c.now}); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestDifferencesByKey(t *testing.T) {
	t.Parallel()
	was := Footprint{Flags: line("port=--port 1")}
	was.Show("port", "1")
	was.Show("host", "::1")
	was.Hide("env.A", "hunter2")
	was.Hide("env.B", "from_env B")
	now := Footprint{Flags: line("port=--port 2")}
	now.Show("port", "2")
	now.Show("devices", "GPU-1")
	now.Show("host", "::1")
	now.Hide("env.A", "hunter3")
	want := []report.Difference{
		{Key: "port", Was: "--port 1", Now: "--port 2"}, // once, though it differs in two ways
		{Key: "devices", Why: "added", Now: "GPU-1"},
		{Key: "env.A"},
		{Key: "env.B", Why: "removed"},
	}
	if got := was.Differences(now); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := was.Differences(was); got != nil {
		t.Errorf("from itself: %+v", got)
	}
	data, err := json.Marshal(was)
	if err != nil || strings.Contains(string(data), "hunter2") {
		t.Errorf("%s (%v)", data, err)
	}
	var read Footprint
	if err := json.Unmarshal(data, &read); err != nil || !reflect.DeepEqual(read, was) || read.Empty() {
		t.Errorf("%+v (%v)", read, err)
	}
	if !(Footprint{}).Empty() {
		t.Error("the zero value is of something")
	}
}
