//go:build race

package schema

// stride is of how many generated pools files one is tried: the race detector makes each eight times as slow, and finds nothing
// in what is not concurrent.
const stride = 3
