// Command fakeengine is a fake llama-server that answers every question with the same words. It stands in for the
// real one where that cannot be had.
package main

import (
	"os"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

func main() {
	enginetest.Main()
	os.Exit(enginetest.Serve(os.Args[1:], enginetest.Behavior{}))
}
