//go:build !cgo

package provisioner

// withCgo tells whether this build can open the GPU's driver.
const withCgo = false
