// Package turns puts moves from place to place in an order in which nobody moves to where somebody still is.
//
// A fleet calls it, for replicas that change ports. It is pure, and knows neither: groups come back, of who must move together.
package turns

import "slices"

// Move is a move from one place to another. A place is left by one Move at most; From and To may be the same.
type Move[P comparable] struct{ From, To P }

// Order returns the moves, by their indexes, in turns: whoever leaves a place comes before the one who takes it, and
// otherwise they keep their order. A turn of several is a ring of moves each of which needs the place of another: they
// have to leave at once.
func Order[P comparable](moves []Move[P]) [][]int {
	left := make([]int, len(moves))
	for i := range left {
		left[i] = i
	}
	// blocker is who is still where i wants to go, or -1.
	blocker := func(i int) int {
		at := slices.IndexFunc(left, func(other int) bool { return other != i && moves[other].From == moves[i].To })
		if at < 0 {
			return -1
		}
		return left[at]
	}
	var turns [][]int
	for len(left) > 0 {
		var turn []int
		if free := slices.IndexFunc(left, func(i int) bool { return blocker(i) < 0 }); free >= 0 {
			turn = []int{left[free]}
		} else {
			turn = ring(left[0], blocker)
		}
		turns = append(turns, turn)
		left = slices.DeleteFunc(left, func(i int) bool { return slices.Contains(turn, i) })
	}
	return turns
}

// ring is the ring that one comes to who follows the blockers from start.
func ring(start int, blocker func(int) int) []int {
	var way []int
	for i := start; ; i = blocker(i) {
		if at := slices.Index(way, i); at >= 0 {
			return way[at:]
		}
		way = append(way, i)
	}
}
