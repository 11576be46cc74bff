package enginetable

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

// Recorded is a text that a real engine has written, such as "llamacpp/testdata/help-b11669.txt" below the folder of engines.
func Recorded(t testing.TB, file string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../../engine", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// LlamaServer has the flags of the newest recorded llama-server, and one GPU.
func LlamaServer(t testing.TB) engine.Host {
	t.Helper()
	return engine.Host{
		Binary: engine.Binary{
			Path: "/usr/bin/llama-server", Version: "b11669-Debian", Build: 11669,
			Flags: flagline.ParseLlama(Recorded(t, "llamacpp/testdata/help-b11669.txt")),
		},
		ModelPath: "/models/m.gguf",
		GPUs:      []engine.GPU{{UUID: "GPU-1"}},
	}
}

// OldLlamaServer is LlamaServer of an early build.
func OldLlamaServer(t testing.TB) engine.Host {
	t.Helper()
	h := LlamaServer(t)
	h.Binary.Version, h.Binary.Build = "b5000-abc", 5000
	h.Binary.Flags = flagline.ParseLlama(Recorded(t, "llamacpp/testdata/help-b5000.txt"))
	return h
}

// VLLM has the flags of a recorded vLLM, and two GPUs.
func VLLM(t testing.TB) engine.Host {
	t.Helper()
	return withTwoGPUs("/opt/vllm/bin/vllm", "0.32.0", flagline.ParseArgparse(Recorded(t, "vllm/testdata/help-0.32.0.txt")))
}

// SGLang has the flags of a recorded SGLang, and two GPUs.
func SGLang(t testing.TB) engine.Host {
	t.Helper()
	parse := sglang.Engine{}.Program(engine.Request{}).ParseHelp
	return withTwoGPUs("/opt/sglang/bin/sglang", "0.5.23", parse(Recorded(t, "sglang/testdata/help-0.5.23.txt")))
}

// TGI has the flags of TGI 3.3, and two GPUs.
func TGI(t testing.TB) engine.Host {
	t.Helper()
	return withTwoGPUs("/usr/local/bin/text-generation-launcher", "3.3.5", flagline.ParseClap(Recorded(t, "tgi/testdata/help-3.3.txt")))
}

func withTwoGPUs(path, name string, flags engine.FlagSet) engine.Host {
	return engine.Host{
		Binary:    engine.Binary{Path: path, Version: name, Build: version.Number(name), Flags: flags},
		ModelPath: "/models/chat", GPUs: []engine.GPU{{UUID: "GPU-1"}, {UUID: "GPU-2"}},
	}
}
