//go:build !race

package gguf

const slack = 1 // see race_test.go
