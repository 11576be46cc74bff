package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/quickstart"
)

func (c *cli) runCommand() *cobra.Command {
	var req quickstart.Request
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run MODEL [-- ENGINE-FLAG...]",
		Short: "Run one model without a pools file",
		Long: `Run one replica of a model in the foreground, without a pools file, and otherwise as one of a file: it is proven to be
ready, handed off, kept alive, and stopped by Ctrl-C. MODEL is a GGUF file, a folder with weights, "owner/repo" or
"owner/repo:QUANT" of the Hugging Face hub (also "hf:…" as in a file, or the address of its page), or the URL of a file.
The flags behind "--" are the engine's own. "init" writes a pools file of the same arguments.

The pool is named after the model. After a run that was killed, the next one of the same model goes on with its engine.`,
		Example: `  engine-provisioner run chat.gguf
  engine-provisioner run ggml-org/gemma-3-1b-it-GGUF:Q4_K_M --port 8090 -- --ctx-size 8192
  engine-provisioner run ./Qwen3-8B --engine vllm -- --max-model-len 8192`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.words = commandWords
			draft, err := makeDraft(cmd, args, req)
			if err != nil {
				return err
			}
			for _, note := range draft.Notes {
				c.say(note)
			}
			one := oneModel{draft.Replica()}
			if c.stateDir != "" {
				one.replica.StateDir = c.stateDir
			}
			return c.beside(one.replica.StateDir, c.runReplicas(cmd.Context(), flags, one))
		},
	}
	addModelFlags(cmd, &req)
	flags.add(cmd, c)
	cmd.Flags().StringVar(&c.stateDir, "state-dir", "", "the directory of records, logs and handoffs (default: .runtime)")
	_ = cmd.MarkFlagDirname("state-dir")
	return cmd
}

// oneModel is what a run without a file runs.
type oneModel struct{ replica provisioner.ProvisionConfig }

func (o oneModel) toRun() ([]provisioner.ProvisionConfig, error) {
	return []provisioner.ProvisionConfig{o.replica}, nil
}

func (oneModel) reload() ([]provisioner.ProvisionConfig, error) {
	return nil, errors.New("this manager is of one model, and has no file to read again; stop it, and run the model with other arguments")
}

func (oneModel) file() string { return "" }

// beside says what has the state directory, and how two models run beside each other.
func (c *cli) beside(stateDir string, err error) error {
	if !errors.Is(err, provisioner.ErrLocked) {
		return err
	}
	all, _ := fleet.Statuses(stateDir, withContainers()...) // the error is of records that cannot be read: those are not told
	for _, s := range all {
		if s.PID > 0 {
			c.say(fmt.Sprintf("%s/%s: %s there, %s", s.Pool, s.Replica, s.State, s.URL))
		}
	}
	return fmt.Errorf("%w; two models run beside each other with a --state-dir and a --port of their own", err)
}
