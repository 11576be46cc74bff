//go:build race

package conformance_test

// raceSays is what the detector says.
const raceSays = "DATA RACE"
