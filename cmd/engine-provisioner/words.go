package main

import (
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// commandWords says in words of the command line what the library says in those of a file.
func commandWords(text string) string {
	for _, w := range wordsOfKeys {
		text = w.key.ReplaceAllString(text, w.word)
	}
	return text
}

// wordsOfKeys are keys as the library's texts hold them, and what stands for them on the command line, in this order.
var wordsOfKeys = []struct {
	key  *lazyregexp.Regexp
	word string
}{
	{lazyregexp.New(`problems in the configuration:`), `problems on the command line:`},
	{lazyregexp.New(`(?m)^flags\[\d+\]: `), `behind "--": `},
	{lazyregexp.New(`(?m)^model\.id: `), `MODEL: `},
	{lazyregexp.New(`(?m)^model\.sha256: `), `--sha256: `},
	{lazyregexp.New(`(?m)^(port|engine|gpu): `), `--$1: `},
	{lazyregexp.New(`write "(port|gpu): (\w+)"`), `write "--$1 $2" before "--"`},
	{lazyregexp.New(`"(gpu): (\w+)"`), `"--$1 $2"`},
	{lazyregexp.New(`write "model: \{id: .*?\}"`), `write it before "--"`},
	{lazyregexp.New(`install it, name it in "provisioning\.binary\.path", or have it brought: write ".*?"`), `install it, or have it brought by the file that "engine-provisioner init" writes`},
	{lazyregexp.New(`"model\.id"`), `MODEL`},
	{lazyregexp.New(`change "port"`), `choose another --port`},
	{lazyregexp.New(`"(port|gpu|engine)"`), `--$1`},
	{lazyregexp.New(`"state_dir"`), `--state-dir`},
	{lazyregexp.New(`"flags"`), `the flags behind "--"`},
	// The rest needs a file.
	{lazyregexp.New(`(write|set) ("(?:host|devices|env|api_key|expose|provisioning|fit|ready|defaults)[^"]*")`), `$1 $2 in a pools file ("engine-provisioner init" makes one)`},
}
