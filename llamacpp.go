package provisioner

// llamaCPP describes llama.cpp's llama-server.
type llamaCPP struct{}

func (llamaCPP) Name() string     { return "llamacpp" }
func (llamaCPP) Program() Program { return Program{Command: "llama-server"} }
func (llamaCPP) Launch(cfg ProvisionConfig, host Host) (LaunchSpec, error) {
	return LaunchSpec{}, nil
}
