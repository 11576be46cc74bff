// Command cmd writes a tiny llama model with random weights as a Hugging Face model folder:
//
//	go run ./internal/hfgen/cmd -o tiny
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/hfgen"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hfgen:", err)
		os.Exit(1)
	}
}

func run() error {
	var p hfgen.Params
	dir := flag.String("o", "", "the `folder` to write")
	flag.IntVar(&p.Width, "width", 64, "width of the embedding, a multiple of 32")
	flag.IntVar(&p.Layers, "layers", 2, "number of layers")
	flag.IntVar(&p.Context, "context", 2048, "tokens of context")
	flag.IntVar(&p.Shards, "shards", 0, "files that the weights are spread over; 0 for one without an index")
	flag.Uint64Var(&p.Seed, "seed", 0, "seed of the weights")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		return fmt.Errorf("cannot write a model: no folder is named; use -o FOLDER")
	}
	return hfgen.Write(*dir, p)
}
