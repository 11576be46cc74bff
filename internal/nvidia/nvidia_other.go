//go:build !linux || !(amd64 || arm64) || static

package nvidia

import "runtime"

// Available tells whether this build can open the driver's library.
const Available = false

// Driver stands for the driver that this build cannot talk to. Its zero value is ready for use.
type Driver struct{}

// New returns a Driver whose every call fails with an [*Error] that says why.
func New() *Driver { return &Driver{} }

// Version fails.
func (*Driver) Version() (string, error) { return "", unsupported() }

// Devices fails.
func (*Driver) Devices() ([]Device, error) { return nil, unsupported() }

// Processes fails.
func (*Driver) Processes() ([]Process, error) { return nil, unsupported() }

func unsupported() error {
	switch {
	case runtime.GOOS != "linux":
		return &Error{Text: "NVIDIA GPUs are supported on Linux only, not on " + runtime.GOOS, Err: ErrNoDriver}
	case runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64":
		return &Error{Text: "this executable is static, as that of the container image, and cannot open the NVIDIA driver's library", Err: ErrNoDriver}
	}
	return &Error{Text: "NVIDIA GPUs are supported on amd64 and arm64 only, not on " + runtime.GOARCH, Err: ErrNoDriver}
}
