package provisioner

import "time"

// sgLang describes "sglang serve".
type sgLang struct{}

func (sgLang) Name() string { return "sglang" }

func (sgLang) Program(ProvisionConfig) Program {
	return Program{
		Image: Image{
			Name: "lmsysorg/sglang", Tag: "latest",
			Entrypoint: []string{"sglang"}, // the image has none
			Volumes:    []string{hubVolume + ":/root/.cache/huggingface"},
			ShmSize:    32 << 30, // as its documentation says; it is a limit
		},
		Command:      "sglang",
		Model:        ModelFolder,
		Distribution: "sglang",
		HelpArgs:     []string{"serve", "--help"},
		ParseHelp:    parseSGLangHelp,
	}
}

// Launch gives no API key: SGLang takes one from its command line alone, which every user of the machine can read.
func (sgLang) Launch(cfg ProvisionConfig, host Host) (LaunchSpec, error) {
	m := sglangDialect.merge(cfg, host)
	if err := m.err(); err != nil {
		return LaunchSpec{}, err
	}
	m.addDefaults()
	model := m.modelFlags("serve", "--model-path")
	served := m.servedName()
	m.shards("--tp-size", "tp-size", "pp-size", "dp-size")
	if m.onCPU() && !m.says("device") {
		m.defaults = append(m.defaults, Flag{
			Args: []string{"--device", "cpu"}, Origin: OriginProvisioner, Key: "gpu", Note: "no GPU is used",
		})
	}
	info, modelInfo := "/server_info", "/model_info"
	if build := host.Binary.Build; build > 0 && build < 5010 {
		// The old names, which newer ones warn of, are those that the old ones know for certain.
		info, modelInfo = "/get_server_info", "/get_model_info"
	}

	spec := LaunchSpec{
		Health: "/health",
		// A healthy answer is one token, looked for once a second (http_server.py).
		HealthTakes: time.Second,
		Context:     tokens(m.said("context-length")),
		Version:     Field{Path: info, Key: "version"},
		Model:       Field{Path: modelInfo, Key: "model_path"},
		Answer:      completion(served),
		// Its watchdog looks every 5 s, and gives the schedulers 15 s, before it ends itself by SIGKILL
		// (tokenizer_manager.py).
		Grace:       30 * time.Second,
		KillsItself: true,
		Causes:      sglangCauses,
	}
	spec.Flags = append(model, m.addressFlags("--host")...)
	spec.Flags = append(spec.Flags, m.defaults...)
	spec.Flags = append(spec.Flags, m.user...)
	if m.on("--enable-metrics") {
		requests := []string{"sglang:num_running_reqs", "sglang:num_queue_reqs"}
		spec.Metrics = &MetricsContract{Path: "/metrics", Required: requests}
		spec.Gauges = &Gauges{Path: "/metrics", Names: requests}
	}
	return spec, nil
}
