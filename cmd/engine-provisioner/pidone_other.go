//go:build !linux

package main

// beInit does nothing: there are no pid namespaces here.
func beInit() {}
