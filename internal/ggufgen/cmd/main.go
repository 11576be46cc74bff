// Command cmd writes a tiny llama model with random weights:
//
//	go run ./internal/ggufgen/cmd -o tiny.gguf
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ggufgen:", err)
		os.Exit(1)
	}
}

func run() error {
	var p ggufgen.Params
	path := flag.String("o", "", "the `file` to write")
	flag.IntVar(&p.Width, "width", 64, "width of the embedding, a multiple of 32")
	flag.IntVar(&p.Layers, "layers", 2, "number of layers")
	flag.IntVar(&p.Context, "context", 2048, "tokens of context")
	flag.IntVar(&p.Experts, "experts", 0, "experts in each layer; 0 for none")
	flag.Uint64Var(&p.Seed, "seed", 0, "seed of the weights")
	flag.Parse()
	if *path == "" || flag.NArg() > 0 {
		return fmt.Errorf("cannot write a model: no file is named; use -o FILE")
	}
	return ggufgen.WriteFile(*path, p)
}
