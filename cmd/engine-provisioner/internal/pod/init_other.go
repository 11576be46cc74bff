//go:build !linux

package pod

// BeInit does nothing: there are no pid namespaces here.
func BeInit() {}
