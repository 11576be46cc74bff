package turns

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		moves []Move[int]
		want  [][]int
	}{
		"nobody":          {nil, nil},
		"each stays":      {[]Move[int]{{1, 1}, {2, 2}}, [][]int{{0}, {1}}},
		"up by one":       {[]Move[int]{{1, 2}, {2, 3}, {3, 4}}, [][]int{{2}, {1}, {0}}},
		"down by one":     {[]Move[int]{{2, 1}, {3, 2}}, [][]int{{0}, {1}}},
		"two change":      {[]Move[int]{{1, 2}, {2, 1}}, [][]int{{0, 1}}},
		"three in a ring": {[]Move[int]{{1, 2}, {2, 3}, {3, 1}}, [][]int{{0, 1, 2}}},
		"one behind two":  {[]Move[int]{{5, 1}, {1, 2}, {2, 1}}, [][]int{{1, 2}, {0}}},
		"two rings":       {[]Move[int]{{1, 2}, {7, 8}, {2, 1}, {8, 7}}, [][]int{{0, 2}, {1, 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Order(c.moves); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestOrderInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Permutation([]int{1, 2, 3, 4, 5, 6, 7}).Draw(t, "from")
		to := rapid.Permutation([]int{1, 2, 3, 4, 5, 6, 7, 8, 9}).Draw(t, "to")
		moves := make([]Move[int], rapid.IntRange(0, len(from)).Draw(t, "moves"))
		occupied := map[int]bool{}
		for i := range moves {
			moves[i] = Move[int]{from[i], to[i]}
			occupied[from[i]] = true
		}
		var done []int
		for _, turn := range Order(moves) {
			for _, i := range turn {
				delete(occupied, moves[i].From)
			}
			for _, i := range turn {
				if occupied[moves[i].To] {
					t.Fatalf("%d moves to where somebody is: %v", i, moves)
				}
				occupied[moves[i].To] = true
			}
			done = append(done, turn...)
		}
		slices.Sort(done)
		for i := range moves {
			if len(done) != len(moves) || done[i] != i {
				t.Fatalf("moved are %v of %v", done, moves)
			}
		}
	})
}
