package quickstart_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/quickstart"
)

// A model is served by what the host has, until ctx ends.
func ExampleMake() {
	serve := func(ctx context.Context, model string) error {
		draft, err := quickstart.Make(ctx, quickstart.Request{Model: model, Flags: []string{"--ctx-size", "8192"}})
		if err != nil {
			return err
		}
		engines, err := fleet.Open(ctx, fleet.Options{}, draft.Replica())
		if err != nil {
			return err
		}
		return errors.Join(engines.Wait(ctx), engines.Shutdown(context.Background()))
	}
	fmt.Println(serve(context.Background(), "no-such-folder/chat.gguf"))
	// Output: cannot use the model "no-such-folder/chat.gguf": file does not exist; there is no folder "no-such-folder"; of the Hugging Face hub it is "hf:no-such-folder/chat.gguf"
}
