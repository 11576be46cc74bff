package config

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Member is one of the replicas that are to run beside each other on one node.
type Member struct {
	Pool, Name string
	StateDir   string
	Stem       string  // what the names of its files begin with
	Group      string  // of its handoff; "" for the user's own
	Origin     *Origin // nil for one made in Go
	Port       int
	Sides      []engine.Port // beside Port
	Needs      []string      // pools
}

// Beside finds replicas that cannot run beside each other. The key of a problem counts from the file, or says which element of
// the list it is about.
func Beside(replicas []Member) []Problem {
	var problems []Problem
	ports, files, groups := map[int]int{}, map[string]int{}, map[string]int{}
	told := map[[2]string]bool{} // one problem for two pools, however many replicas they have
	report := func(i int, field string, before int, format string, args ...any) {
		a, b := replicas[i], replicas[before]
		pair := [2]string{field + a.Pool, b.Pool}
		if a.Origin != nil && told[pair] {
			return
		}
		told[pair] = true
		key := fmt.Sprintf("[%d].%s", i, field)
		if a.Origin != nil {
			key = a.Origin.Prefix + "." + field
		}
		problems = append(problems, Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	for i, c := range replicas {
		file := c.StateDir + "\x00" + c.Stem
		if before, ok := files[file]; ok {
			report(i, "id", before, "replicas %s and %s would share the handoff file %s.json; rename one",
				replicas[before].Name, c.Name, c.Stem)
		} else {
			files[file] = i
		}
		if before, ok := groups[c.StateDir]; !ok && c.Group != "" {
			groups[c.StateDir] = i
		} else if ok && c.Group != "" && replicas[before].Group != c.Group {
			report(i, "handoff.group", before, "is %q, and that of pool %s is %q; the folder of the handoffs has one group: write the same, or use two state directories",
				c.Group, replicas[before].Pool, replicas[before].Group)
		}
		if before, ok := ports[c.Port]; ok {
			report(i, "port", before, "replica %s needs port %d, which %s has; every replica needs a port of its own",
				c.Name, c.Port, replicas[before].Name)
		} else {
			ports[c.Port] = i
		}
	}
	for i, c := range replicas {
		for _, side := range c.Sides {
			if before, ok := ports[side.Number]; ok {
				report(i, "port", before, `replica %s needs port %d for %s, and %s has it; change the "port" or "flags" that it comes from`,
					c.Name, side.Number, side.Use, replicas[before].Name)
			} else {
				ports[side.Number] = i
			}
		}
	}
	return append(problems, needs(replicas)...)
}
