package provisioner

// llamaCPP describes llama.cpp's llama-server.
type llamaCPP struct{}
