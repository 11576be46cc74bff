package wrongfile

import (
	"slices"
	"testing"
)

func TestRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, state string
		pools             []string // none for what cannot be told
	}{
		{"unknown keys", "pools: [{id: a, engin: x, port: none}, {id: b}]\nnonsense: 1", "", []string{"a", "b"}},
		{"a relative folder", "state_dir: st\npools: [{id: a, ports: 1}]", "/dir/st", []string{"a"}},
		{"an absolute folder", "state_dir: /st\npools: [{id: a, flags: x}]", "/st", []string{"a"}},
		{"json", `{"pools": [{"id": "a", "engine": 3}]}`, "", []string{"a"}},
		{"a pool without a name", "pools: [{engine: x}, {id: b}]", "", []string{"b"}},
		{"a folder under a wrong name", "statedir: st\npools: [{id: a}]", "", nil},
		{"a folder of a wrong kind", "state_dir: [st]\npools: [{id: a}]", "", nil},
		{"two folders", "state_dir: a\nstate_dir: b\npools: [{id: a}]", "", nil},
		{"a name of a wrong kind", "pools: [{id: 7}, {id: b}]", "", nil},
		{"pools of a wrong kind", "pools: {id: a}", "", nil},
		{"a pool of a wrong kind", "pools: [{id: a}, b]", "", nil},
		{"no pools", "state_dir: st", "", nil},
		{"no names", "pools: [{engine: x}]", "", nil},
		{"no yaml", "pools: [{id: a}", "", nil},
		{"two documents", "pools: [{id: a}]\n---\npools: [{id: b}]", "", nil},
		{"nothing", "", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run, err := Read([]byte(c.file), "/dir")
			if run.StateDir != c.state || !slices.Equal(run.Pools, c.pools) || (err != nil) != (c.pools == nil) {
				t.Errorf("%+v, %v", run, err)
			}
		})
	}
}
