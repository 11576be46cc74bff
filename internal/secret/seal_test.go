package secret

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
)

func TestSeals(t *testing.T) {
	t.Parallel()
	then := map[string]Keys{"api_key": {Of("one"), Of("two")}, "env.DB": {Of("db")}}
	sealed := Seal(then)
	data, err := json.Marshal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	var kept Seals
	if err := json.Unmarshal(data, &kept); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		now  map[string]Keys
		want []string
	}{
		"the same":            {then, nil},
		"one changed":         {map[string]Keys{"api_key": {Of("one"), Of("2")}, "env.DB": {Of("db")}}, []string{"api_key"}},
		"cut elsewhere":       {map[string]Keys{"api_key": {Of("onetwo")}}, []string{"api_key"}},
		"all changed":         {map[string]Keys{"api_key": {}, "env.DB": {Of("")}}, []string{"api_key", "env.DB"}},
		"not known now":       {nil, nil},
		"not known then":      {map[string]Keys{"env.NEW": {Of("x")}}, nil},
		"the names exchanged": {map[string]Keys{"env.DB": {Of("one"), Of("two")}}, []string{"env.DB"}},
	} {
		if got := kept.Broken(c.now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := (Seals{}).Broken(then); got != nil {
		t.Errorf("nothing was sealed: %q", got)
	}
	if again := Seal(then); bytes.Equal(again.Of["api_key"], sealed.Of["api_key"]) {
		t.Error("two launches with one secret can be told from their records")
	}
}
