// Package nearest finds the word that was probably meant.
//
// Whoever refuses a word of a user's calls it. It offers none where a guess could mean something else, and changes nothing.
package nearest

import "strings"

// maxWord keeps hostile input from costing time; no key and no flag is longer.
const maxWord = 64

// minStart is how long the start of a word must be to stand for the word: "--ctx" for "--ctx-size".
const minStart = 4

// Of returns the known word that word is probably a misspelling of, or "" when none is near: more than a third of the
// longer word's letters differ, and it is not cut short from one. Case does not count; the first of several equally near
// words wins.
func Of(word string, known []string) string {
	if len(word) > maxWord {
		return ""
	}
	best, bestDistance := "", 0
	for _, k := range known {
		limit := max(len(word), len(k)) / 3
		d := distance(strings.ToLower(word), strings.ToLower(k))
		if d <= limit && d < len(k) && (best == "" || d < bestDistance) {
			best, bestDistance = k, d
		}
	}
	if best != "" || len(word) < minStart {
		return best
	}
	for _, k := range known {
		if strings.HasPrefix(strings.ToLower(k), strings.ToLower(word)) && (best == "" || len(k) < len(best)) {
			best = k
		}
	}
	return best
}

// minTypo is the length from which on one wrong letter is a typing mistake rather than another word: "-cnv" and "-ctv"
// are two flags.
const minTypo = 6

// Typo is Of for names in which a part of a word decides the meaning, such as flags: only two wrong letters are taken for
// a mistake, or one in each six, or an end that was cut off.
func Typo(word string, known []string) string {
	near := Of(word, known)
	if near == "" || strings.HasPrefix(near, word) && len(word) >= minStart {
		return near
	}
	if d := distance(strings.ToLower(word), strings.ToLower(near)); d > 0 && d > min(2, len(word)/minTypo) {
		return ""
	}
	return near
}

// distance is the number of letters to insert, delete, replace or swap with their neighbour to get from a to b (the
// optimal string alignment distance).
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before, last := make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range last {
		last[j] = j
	}
	for i := range s {
		row := make([]int, len(t)+1)
		row[0] = i + 1
		for j := range t {
			cost := 1
			if s[i] == t[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && s[i] == t[j-1] && s[i-1] == t[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(t)]
}
