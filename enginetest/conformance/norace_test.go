//go:build !race

package conformance_test

// raceSays is nothing: nobody looks.
const raceSays = ""
