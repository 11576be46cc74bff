//go:build !race

package schema

const stride = 1
