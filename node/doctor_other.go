//go:build !linux

package node

import "runtime"

func (d *doctor) filesystem(string, string) {}

func (d *doctor) system() {
	d.problem("kernel", "engines cannot be run on "+runtime.GOOS, "use Linux; configurations can be validated here")
}
