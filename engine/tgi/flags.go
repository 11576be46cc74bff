package tgi

import (
	_ "embed"
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/internal/python"
)

// flagsText is the help of TGI 3.3 without its descriptions. TestBuiltinFlags of the root rewrites it.
//
//go:embed flags.txt
var flagsText string

var builtinFlags = sync.OnceValue(func() engine.FlagSet { return flagline.ParseClap(flagsText) })

const adviceTunnel = "it would open the engine to the internet; put a proxy in front of the engine"

// dialect is the command line of text-generation-launcher: Rust's clap, with a variable beside each flag whose name is
// as plain as PORT.
var dialect = flagline.Dialect{
	Program:  "text-generation-launcher",
	Commands: []flagline.Command{{Name: "text-generation-launcher"}},
	Builtin:  builtinFlags,
	Newest:   3003000,
	Pinned:   python.Pinned("text-generation", "text-generation-inference"),
	Joined:   true,
	Owned: []flagline.Owned{
		{Names: []string{"--model-id"}, Advice: flagline.AdviceModel},
		{Names: []string{"--revision"}, Advice: python.AdviceRevision},
		{Names: []string{"--hostname"}, Advice: flagline.AdviceHost},
		{Names: []string{"-p", "--port"}, Advice: flagline.AdvicePort},
		{Names: []string{"--shard-uds-path", "--master-port", "--prometheus-port"}, Advice: flagline.AdviceOwnPort},
		{Names: []string{"--master-addr"}, Advice: python.AdviceNodes},
		{Names: []string{"--api-key"}, Advice: flagline.AdviceKey},
		{Names: []string{"--ngrok", "--ngrok-authtoken", "--ngrok-edge"}, Advice: adviceTunnel},
		{Names: []string{"-h", "--help", "-V", "--version", "-e", "--env"}, Advice: flagline.AdviceExit},
	},
	Alone:    map[string]func(string) bool{"--master-addr": flagline.OnLoopback},
	OwnedEnv: map[string]string{"API_KEY": flagline.AdviceKeyEnv},
	// launcher/src/main.rs.
	Deprecated: map[string]string{"--max-input-length": `"--max-input-tokens" says the same`},
}
