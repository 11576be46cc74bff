// Package footprint says what of a configuration went into a launch, key by key, so that a later look can name the keys
// that would make another launch. It is plain data, small enough for a record on disk, and holds no secret: what may be
// confidential is there as a digest.
//
// A start makes one, and whoever compares a launch with a configuration. It compares, and decides nothing about the launch.
package footprint

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/report"
)

// Footprint is what one launch depends on. The zero value is that of a launch of which nothing is known.
type Footprint struct {
	Flags   []Flag            `json:"flags,omitempty"`   // the command line after the executable, in order
	Values  map[string]string `json:"values,omitempty"`  // what may be shown, by key
	Digests map[string]string `json:"digests,omitempty"` // what may not, by key
}

// Flag is a part of the command line with the key that it comes from; "" for a default.
type Flag struct {
	Key  string   `json:"key,omitempty"`
	Args []string `json:"args"`
}

func (f Flag) text() string { return strings.Join(f.Args, " ") }

// Guessed is that of a launch of which the command line alone is known. Its flags have the keys that those of the same
// name have in next.
func Guessed(args []string, next Footprint) Footprint {
	f := Footprint{Flags: []Flag{}}
	for len(args) > 0 {
		n := 1
		for n < len(args) && !strings.HasPrefix(args[n], "-") {
			n++
		}
		flag := Flag{Args: args[:n]}
		for _, known := range next.Flags {
			if known.Args[0] != args[0] {
				continue
			}
			flag.Key = known.Key
			if len(known.Args) <= len(args) && slices.Equal(known.Args, args[:len(known.Args)]) { // also where a value looks like a flag
				flag.Args = known.Args
				break
			}
		}
		f.Flags, args = append(f.Flags, flag), args[len(flag.Args):]
	}
	return f
}

// Show adds a value that anybody may read.
func (f *Footprint) Show(key, value string) {
	if f.Values == nil {
		f.Values = map[string]string{}
	}
	f.Values[key] = value
}

// Hide adds a value that nobody may read.
func (f *Footprint) Hide(key, value string) {
	if f.Digests == nil {
		f.Digests = map[string]string{}
	}
	sum := sha256.Sum256([]byte(value))
	f.Digests[key] = hex.EncodeToString(sum[:])
}

// Empty reports whether nothing is known.
func (f Footprint) Empty() bool { return f.Flags == nil && f.Values == nil && f.Digests == nil }

// Differences names the keys by which the next launch would differ: those of the command line in its order, then the rest
// by name, each once.
func (f Footprint) Differences(next Footprint) []report.Difference {
	all := flagDifferences(f.Flags, next.Flags)
	all = append(all, valueDifferences(f.Values, next.Values)...)
	for _, d := range valueDifferences(f.Digests, next.Digests) {
		all = append(all, report.Difference{Key: d.Key, Why: d.Why})
	}
	named := map[string]bool{}
	return slices.DeleteFunc(all, func(d report.Difference) bool {
		again := named[d.Key]
		named[d.Key] = true
		return again
	})
}

func valueDifferences(was, now map[string]string) (all []report.Difference) {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(was)), maps.Keys(now))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		before, had := was[key]
		after, has := now[key]
		if had != has || before != after {
			all = append(all, report.Difference{Key: key, Why: comesOrGoes(had, has), Was: before, Now: after})
		}
	}
	return all
}

func comesOrGoes(had, has bool) string {
	switch {
	case !had:
		return "added"
	case !has:
		return "removed"
	}
	return ""
}

// flagDifferences compares command lines. A flag that stands elsewhere is no difference as long as another one explains
// why: an element that is put in moves all that follow.
func flagDifferences(was, now []Flag) []report.Difference {
	if slices.Equal(args(was), args(now)) {
		return nil
	}
	gone, come := without(was, now), without(now, was)
	if len(gone)+len(come) == 0 {
		return []report.Difference{{Key: "flags", Why: "in another order"}}
	}
	var all []report.Difference
	for _, f := range come {
		d := report.Difference{Key: keyOf(f), Now: f.text()}
		if i := slices.IndexFunc(gone, func(g Flag) bool { return keyOf(g) == d.Key && g.Args[0] == f.Args[0] }); i >= 0 {
			d.Was = gone[i].text()
			gone = slices.Delete(gone, i, i+1)
		} else if i := slices.IndexFunc(gone, func(g Flag) bool { return keyOf(g) == d.Key }); i >= 0 {
			d.Was = gone[i].text()
			gone = slices.Delete(gone, i, i+1)
		} else {
			d.Why = "added"
		}
		all = append(all, d)
	}
	for _, f := range gone {
		all = append(all, report.Difference{Key: keyOf(f), Why: "removed", Was: f.text()})
	}
	return merge(all)
}

// merge leaves one difference for each key.
func merge(all []report.Difference) []report.Difference {
	var merged []report.Difference
	for _, d := range all {
		i := slices.IndexFunc(merged, func(m report.Difference) bool { return m.Key == d.Key })
		if i < 0 {
			merged = append(merged, d)
			continue
		}
		m := &merged[i]
		m.Was, m.Now = join(m.Was, d.Was), join(m.Now, d.Now)
		if m.Why != d.Why {
			m.Why = ""
		}
	}
	return merged
}

func join(a, b string) string { return strings.TrimSpace(a + " " + b) }

func keyOf(f Flag) string {
	if f.Key == "" {
		return "flags" // a default of ours, which the flags decide on
	}
	return f.Key
}

func args(flags []Flag) (all []string) {
	for _, f := range flags {
		all = append(all, f.Args...)
	}
	return all
}

// without is the flags that others do not have, each as often as it has too many.
func without(flags, others []Flag) (rest []Flag) {
	others = slices.Clone(others)
	for _, f := range flags {
		if i := slices.IndexFunc(others, func(o Flag) bool { return slices.Equal(o.Args, f.Args) }); i >= 0 {
			others = slices.Delete(others, i, i+1)
			continue
		}
		rest = append(rest, f)
	}
	return rest
}
