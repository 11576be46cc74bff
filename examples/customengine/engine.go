package main

import (
	"fmt"
	"strconv"
	"time"

	ep "github.com/llama-orch/engine-provisioner"
)

// fileServer is an engine of one's own: "python3 -m http.server", with a folder for a model. An Engine is data: it says
// what to run and where to ask, and does neither. So a table tests it, without a process; see engine_test.go.
type fileServer struct{}

func (fileServer) Name() string { return "files" }

func (fileServer) Program(ep.ProvisionConfig) ep.Program {
	parse := func(output string) (version string, build int, err error) {
		_, err = fmt.Sscanf(output, "Python %s", &version)
		return version, 0, err
	}
	return ep.Program{Command: "python3", VersionArgs: []string{"--version"}, ParseVersion: parse}
}

func (fileServer) Launch(cfg ep.ProvisionConfig, host ep.Host) (ep.LaunchSpec, error) {
	if cfg.APIKey != nil {
		return ep.LaunchSpec{}, &ep.ConfigError{Problems: []ep.Problem{
			{Key: "api_key", Message: "a file server cannot ask for a key; remove it"},
		}}
	}
	flags := []ep.Flag{
		{Args: []string{"-m", "http.server"}, Origin: ep.OriginProvisioner},
		{Args: []string{"--bind", cfg.Host}, Origin: ep.OriginProvisioner, Key: "host"},
		{Args: []string{"--directory", host.ModelPath}, Origin: ep.OriginProvisioner, Key: "model.id"},
		{Args: []string{strconv.Itoa(cfg.Port)}, Origin: ep.OriginProvisioner, Key: "port"},
	}
	for i, f := range cfg.Flags {
		flags = append(flags, ep.Flag{Args: []string{f}, Origin: ep.OriginConfig, Key: fmt.Sprintf("flags[%d]", i)})
	}
	return ep.LaunchSpec{Flags: flags, Health: "/", Grace: 2 * time.Second}, nil
}
