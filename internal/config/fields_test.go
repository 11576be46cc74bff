package config

import (
	"reflect"
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
	Odd   string   `json:"odd" validate:"omitempty,nonesuch"`
}

// Embedded is part of what it stands in.
type Embedded struct {
	Port int `json:"port" validate:"required,max=9"`
}

// Each rule is kept or broken, of each field the first one is told, and keys are those of the file.
func TestFields(t *testing.T) {
	t.Parallel()
	good := outer{Embedded: Embedded{1}, Name: "a", Words: []string{"w"}}
	if got := breaks(reflect.ValueOf(good), ""); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	for want, change := range map[string]func(*outer){
		"name required":      func(o *outer) { o.Name = "" },
		"name id":            func(o *outer) { o.Name = "A" },
		"port required":      func(o *outer) { o.Port = 0 },
		"port max":           func(o *outer) { o.Port = 10 },
		"host ip":            func(o *outer) { o.Host = "localhost" },
		"count min":          func(o *outer) { o.Count = -1 },
		"wait min":           func(o *outer) { o.Wait = new(int64(-1)) },
		"mode oneof":         func(o *outer) { o.Mode = "c" },
		"words required":     func(o *outer) { o.Words = nil },
		"words min":          func(o *outer) { o.Words = []string{} },
		"block.hooks max":    func(o *outer) { o.Block = &inner{Hooks: make([]hookLike, 2)} },
		"odd nonesuch":       func(o *outer) { o.Odd = "x" },
		"block.hooks[0].url": func(o *outer) { o.Block = &inner{Hooks: make([]hookLike, 1)} },
	} {
		wrong := good
		change(&wrong)
		var got []string
		for _, b := range breaks(reflect.ValueOf(wrong), "") {
			got = append(got, b.key+" "+b.rule, b.key)
		}
		if len(got) != 2 || !slices.Contains(got, want) {
			t.Errorf("%s: got %q", want, got)
		}
	}
	if got := breaks(reflect.ValueOf(outer{Embedded: Embedded{10}, Count: 4}), ""); len(got) != 4 {
		t.Errorf("%d rules are broken: %+v", len(got), got)
	}
}
