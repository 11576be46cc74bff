package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// importedFile is a pools file as --output json tells it.
type importedFile struct {
	Text  string   `json:"text"`
	Notes []string `json:"notes"`
}

func (c *cli) importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import -- PROGRAM ARGUMENT...",
		Short: "Make a pools file of an engine's command line",
		Long: `Print a pools file that runs what a command line runs: of llama-server, vllm, sglang or text-generation-launcher, with
variables before it where it has some. What another key decides becomes that key, flags stay as they are, and a comment
says where there is something to decide. Secrets are left out. Nothing is started, and no file is looked at.`,
		Example: `  engine-provisioner import -- llama-server -hf a/b:Q4_K_M -c 8192 --port 8080 -ngl 99 > pools.yaml
  engine-provisioner import -- CUDA_VISIBLE_DEVICES=0,1 vllm serve Qwen/Qwen3-8B --tool-call-parser hermes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{err: errors.New("no command line; write it behind \"--\""), help: "engine-provisioner import --help"}
			}
			if cmd.ArgsLenAtDash() != 0 {
				return &usageError{
					err:  fmt.Errorf("cannot import %q: only a command line, which is written behind \"--\"", args[0]),
					help: "engine-provisioner import --help",
				}
			}
			imported, err := provisioner.ImportArgs(args, nil)
			if err != nil {
				return &usageError{err: err, help: "engine-provisioner import --help"}
			}
			text, err := imported.YAML()
			if err != nil {
				return err
			}
			if c.output.json {
				return writeJSON(c.std.out, importedFile{string(text), imported.Notes()})
			}
			_, err = c.std.out.Write(text)
			return err
		},
	}
}
