//go:build race

package gguf

// slack is how much more may be allocated under the race detector, where a sync.Pool forgets a quarter of what it is given: the
// regular expressions of gguf-parser then make their machines anew, 1.2 GB for 4,096 names instead of 5 MB.
const slack = 64
