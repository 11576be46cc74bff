package config

import (
	"slices"
	"testing"
)

type inner struct {
	Hooks []hookLike `json:"hooks" validate:"max=1,dive"`
}

type hookLike struct {
	URL string `json:"url" validate:"required"`
}

type outer struct {
	inner
	Embedded
	Name  string   `json:"name" validate:"required,id"`
	Host  string   `json:"host" validate:"omitempty,ip"`
	Count int      `json:"count" validate:"min=0,max=3"`
	Wait  *int64   `json:"wait" validate:"omitempty,min=0"`
	Mode  string   `json:"mode" validate:"omitempty,oneof=a b"`
	Words []string `json:"words" validate:"required,min=1"`
	Block *inner   `json:"block"`
}

// Embedded is part of what it stands in.
type Embedded struct {
	Port int `json:"port" validate:"required,max=9"`
}

// Each rule is kept or broken, of each field the first one is told, and keys are those of the file.
func TestFields(t *testing.T) {
	t.Parallel()
	broken := func(o outer) (keys []string) {
		k := New(nil)
		k.Fields(o, []string{"a"})
		for _, p := range k.Problems() {
			keys = append(keys, p.Key)
		}
		return keys
	}
	good := outer{Embedded: Embedded{1}, Name: "a", Words: []string{"w"}}
	if got := broken(good); len(got) > 0 {
		t.Errorf("%q", got)
	}
	for want, changes := range map[string][]func(*outer){
		"name":               {func(o *outer) { o.Name = "" }, func(o *outer) { o.Name = "A" }},
		"port":               {func(o *outer) { o.Port = 0 }, func(o *outer) { o.Port = 10 }},
		"host":               {func(o *outer) { o.Host = "localhost" }},
		"count":              {func(o *outer) { o.Count = -1 }, func(o *outer) { o.Count = 4 }},
		"wait":               {func(o *outer) { o.Wait = new(int64(-1)) }},
		"mode":               {func(o *outer) { o.Mode = "c" }},
		"words":              {func(o *outer) { o.Words = nil }, func(o *outer) { o.Words = []string{} }},
		"block.hooks":        {func(o *outer) { o.Block = &inner{Hooks: make([]hookLike, 2)} }},
		"block.hooks[0].url": {func(o *outer) { o.Block = &inner{Hooks: make([]hookLike, 1)} }},
	} {
		for _, change := range changes {
			wrong := good
			change(&wrong)
			if got := broken(wrong); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: got %q", want, got)
			}
		}
	}
	if got := broken(outer{Embedded: Embedded{10}, Count: 4}); !slices.Equal(got, []string{"port", "name", "count", "words"}) {
		t.Errorf("got %q", got)
	}
}
