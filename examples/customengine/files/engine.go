// Package files is an engine of one's own: "python3 -m http.server", with a folder for a model. It imports package engine and
// nothing else of the provisioner. Programs add it with provisioner.WithEngine; it starts and asks nothing itself.
package files

import (
	"fmt"
	"strconv"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Engine describes the server. An engine is data: it says what to run and where to ask, and does neither. So a table tests it,
// without a process; see engine_test.go.
type Engine struct{}

// Name returns "files".
func (Engine) Name() string { return "files" }

// Program says how Python is found, and asked for its version.
func (Engine) Program(engine.Request) engine.Program {
	parse := func(output string) (version string, build int, err error) {
		_, err = fmt.Sscanf(output, "Python %s", &version)
		return version, 0, err
	}
	return engine.Program{Command: "python3", VersionArgs: []string{"--version"}, ParseVersion: parse}
}

// Launch describes a server of the folder.
func (Engine) Launch(r engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	if r.HasKey {
		return engine.LaunchSpec{}, &engine.ConfigError{Problems: []engine.Problem{
			{Key: "api_key", Message: "a file server cannot ask for a key; remove it"},
		}}
	}
	flags := []engine.Flag{
		{Args: []string{"-m", "http.server"}, Origin: engine.OriginProvisioner},
		{Args: []string{"--bind", r.Host}, Origin: engine.OriginProvisioner, Key: "host"},
		{Args: []string{"--directory", host.ModelPath}, Origin: engine.OriginProvisioner, Key: "model.id"},
		{Args: []string{strconv.Itoa(r.Port)}, Origin: engine.OriginProvisioner, Key: "port"},
	}
	for i, f := range r.Flags {
		flags = append(flags, engine.Flag{Args: []string{f}, Origin: engine.OriginConfig, Key: fmt.Sprintf("flags[%d]", i)})
	}
	return engine.LaunchSpec{Flags: flags, Health: "/", Grace: 2 * time.Second}, nil
}
