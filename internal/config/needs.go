package config

import (
	"fmt"
	"slices"
	"strings"
)

// maxPools is how many pools a file may have.
const maxPools = 256

// needs finds what is wrong with the pools that replicas need: that are not there, or need each other.
func needs(replicas []Member) []Problem {
	var problems []Problem
	pools := map[string]Member{}
	var ids []string
	for _, c := range replicas {
		if _, ok := pools[c.Pool]; !ok {
			pools[c.Pool], ids = c, append(ids, c.Pool)
		}
	}
	if len(ids) > maxPools {
		return nil // which is told, and what is wrong with so many would take long to find
	}
	round := circular(pools)
	for i, id := range ids {
		c := pools[id]
		prefix := fmt.Sprintf("[%d].", i)
		if c.Origin != nil {
			prefix = c.Origin.Prefix + "."
		}
		for n, need := range c.Needs {
			problem := ""
			switch _, ok := pools[need]; {
			case slices.Contains(c.Needs[:n], need):
				problem = fmt.Sprintf("pool %q is here twice; remove one", need)
			case !ok:
				problem = UnknownPool(need, ids).Error()
			default:
				if !round[id] || !round[need] {
					continue
				}
				if circle := circleOf(pools, id, need); circle != nil {
					problem = strings.Join(circle, " needs ") + ", so that none of them can be the first; remove one of these"
				}
			}
			if problem != "" {
				problems = append(problems, Problem{Key: fmt.Sprintf("%sneeds[%d]", prefix, n), Message: problem})
			}
		}
	}
	return problems
}

// circular are the pools that need each other, and those that need one of these. Usually there is none, which is found in one pass over
// the needs of each, where circleOf takes one for each need.
func circular(pools map[string]Member) map[string]bool {
	waiting, neededBy := map[string]int{}, map[string][]string{}
	var free []string
	for id, c := range pools {
		for _, need := range c.Needs {
			if _, ok := pools[need]; ok {
				waiting[id]++
				neededBy[need] = append(neededBy[need], id)
			}
		}
		if waiting[id] == 0 {
			free = append(free, id)
		}
	}
	for len(free) > 0 {
		id := free[len(free)-1]
		free = free[:len(free)-1]
		for _, by := range neededBy[id] {
			if waiting[by]--; waiting[by] == 0 {
				free = append(free, by)
			}
		}
	}
	round := map[string]bool{}
	for id, n := range waiting {
		if n > 0 {
			round[id] = true
		}
	}
	return round
}

// circleOf is a way from a pool over one that it needs back to itself; nil when there is none.
func circleOf(pools map[string]Member, from, over string) []string {
	seen := map[string]bool{}
	var walk func(at string) []string
	walk = func(at string) []string {
		if at == from {
			return []string{at}
		}
		if seen[at] {
			return nil
		}
		seen[at] = true
		for _, next := range pools[at].Needs {
			if way := walk(next); way != nil {
				return append([]string{at}, way...)
			}
		}
		return nil
	}
	way := walk(over)
	if way == nil {
		return nil
	}
	return append([]string{from}, way...)
}
