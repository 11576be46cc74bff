package footprint

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Keys names the keys by which two values differ that encode to JSON objects, such as "drain.timeout". Lists are compared
// as a whole.
func Keys(a, b any) ([]string, error) {
	was, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	now, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return keys("", was, now), nil
}

func keys(at string, was, now json.RawMessage) (all []string) {
	if bytes.Equal(was, now) {
		return nil
	}
	var before, after map[string]json.RawMessage
	if json.Unmarshal(orEmpty(was), &before) != nil || json.Unmarshal(orEmpty(now), &after) != nil {
		return []string{at}
	}
	prefix := ""
	if at != "" {
		prefix = at + "."
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		all = append(all, keys(prefix+name, before[name], after[name])...)
	}
	return all
}

// orEmpty is an object without keys for one that was left out.
func orEmpty(object json.RawMessage) json.RawMessage {
	if len(object) == 0 {
		return json.RawMessage("{}")
	}
	return object
}
