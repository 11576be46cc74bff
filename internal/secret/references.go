package secret

import (
	"encoding/json"
	"maps"
	"slices"
)

// References are the variables, sorted, from which a configuration reads secrets, wherever it says so: {"from_env": NAME}. One that
// cannot be written refers to none.
func References(config any) []string {
	found := map[string]bool{}
	var all any
	if data, err := json.Marshal(config); err == nil && json.Unmarshal(data, &all) == nil {
		references(all, found)
	}
	return slices.Sorted(maps.Keys(found))
}

func references(value any, found map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		if name, ok := value["from_env"].(string); ok && len(value) == 1 {
			found[name] = true
		}
		for _, v := range value {
			references(v, found)
		}
	case []any:
		for _, v := range value {
			references(v, found)
		}
	}
}
