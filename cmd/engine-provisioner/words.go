package main

import "regexp"

// commandWords says in words of the command line what the library says in those of a file.
func commandWords(text string) string {
	for _, w := range wordsOfKeys {
		text = w.key.ReplaceAllString(text, w.word)
	}
	return text
}

// wordsOfKeys are keys as the library's texts hold them, and what stands for them on the command line, in this order.
var wordsOfKeys = []struct {
	key  *regexp.Regexp
	word string
}{
	{regexp.MustCompile(`problems in the configuration:`), `problems on the command line:`},
	{regexp.MustCompile(`(?m)^flags\[\d+\]: `), `behind "--": `},
	{regexp.MustCompile(`(?m)^model\.id: `), `MODEL: `},
	{regexp.MustCompile(`(?m)^model\.sha256: `), `--sha256: `},
	{regexp.MustCompile(`(?m)^(port|engine|gpu): `), `--$1: `},
	{regexp.MustCompile(`write "(port|gpu): (\w+)"`), `write "--$1 $2" before "--"`},
	{regexp.MustCompile(`"(gpu): (\w+)"`), `"--$1 $2"`},
	{regexp.MustCompile(`write "model: \{id: .*?\}"`), `write it before "--"`},
	{regexp.MustCompile(`install it, name it in "provisioning\.binary\.path", or have it brought: write ".*?"`), `install it, or have it brought by the file that "engine-provisioner init" writes`},
	{regexp.MustCompile(`"model\.id"`), `MODEL`},
	{regexp.MustCompile(`change "port"`), `choose another --port`},
	{regexp.MustCompile(`"(port|gpu|engine)"`), `--$1`},
	{regexp.MustCompile(`"state_dir"`), `--state-dir`},
	{regexp.MustCompile(`"flags"`), `the flags behind "--"`},
	// The rest needs a file.
	{regexp.MustCompile(`(write|set) ("(?:host|devices|env|api_key|expose|provisioning|fit|ready|defaults)[^"]*")`), `$1 $2 in a pools file ("engine-provisioner init" makes one)`},
}
