package provisioner

import (
	_ "embed"
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
)

// tgiFlagsText is the help of TGI 3.3 without its descriptions. TestBuiltinFlags rewrites it.
//
//go:embed tgi_flags.txt
var tgiFlagsText string

var builtinTGIFlags = sync.OnceValue(func() engine.FlagSet { return parseClapHelp(tgiFlagsText) })

const adviceTunnel = "it would open the engine to the internet; put a proxy in front of the engine"

// tgiDialect is the command line of text-generation-launcher: Rust's clap, with a variable beside each flag whose name is
// as plain as PORT.
var tgiDialect = flagDialect{
	program: "text-generation-launcher",
	builtin: builtinTGIFlags,
	newest:  3003000,
	pinned:  pinnedVersion("text-generation", "text-generation-inference"),
	joined:  true,
	owned: []ownedFlag{
		{[]string{"--model-id"}, adviceModel},
		{[]string{"--revision"}, adviceRevision},
		{[]string{"--hostname"}, adviceHost},
		{[]string{"-p", "--port"}, advicePort},
		{[]string{"--shard-uds-path", "--master-port", "--prometheus-port"}, adviceOwnPort},
		{[]string{"--master-addr"}, adviceNodes},
		{[]string{"--api-key"}, adviceKey},
		{[]string{"--ngrok", "--ngrok-authtoken", "--ngrok-edge"}, adviceTunnel},
		{[]string{"-h", "--help", "-V", "--version", "-e", "--env"}, adviceExit},
	},
	alone:    map[string]func(string) bool{"--master-addr": onLoopback},
	ownedEnv: map[string]string{"API_KEY": adviceKeyEnv},
	// launcher/src/main.rs.
	deprecated: map[string]string{"--max-input-length": `"--max-input-tokens" says the same`},
}
