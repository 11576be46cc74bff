package config

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// What is found in one pass is what is found by going from each pool over each of its needs.
func TestCircular(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		pools := map[string]Member{}
		n := 1 + random.IntN(8)
		for i := range n {
			var m Member
			for range random.IntN(3) {
				m.Needs = append(m.Needs, fmt.Sprint("p", random.IntN(n+1))) // one that is not there, too
			}
			pools[fmt.Sprint("p", i)] = m
		}
		round := circular(pools)
		for id, m := range pools {
			for _, need := range m.Needs {
				if circle := circleOf(pools, id, need); circle != nil && (!round[id] || !round[need]) {
					t.Fatalf("seed %d: %v is not seen in %v", seed, circle, pools)
				}
			}
			// Whoever is told as going round comes to a pool that does.
			reaches := slices.ContainsFunc(m.Needs, func(need string) bool { return round[need] })
			if round[id] != reaches {
				t.Fatalf("seed %d: %s: %t, though its needs: %t", seed, id, round[id], reaches)
			}
		}
	}
}
