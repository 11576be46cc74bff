package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/importer"
)

// importedFile is a pools file as --output json tells it.
type importedFile struct {
	Text  string   `json:"text"`
	Notes []string `json:"notes"`
}

func (c *cli) importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE | -- PROGRAM ARGUMENT...",
		Short: "Make a pools file of what you have",
		Long: `Print a pools file that runs what a file or a command line runs. The file is a llama-swap configuration, a Docker Compose
file, a systemd unit, an Ollama Modelfile or a shell script; the command line is llama-server's, vllm's, sglang's or
text-generation-launcher's, or "docker run", with variables and wrappers before it where it has some.

What another key decides becomes that key, flags stay as they are, and a comment says what was left out and where there is
something to decide. Secrets are left out. Nothing is started, and no other file is looked at.`,
		Example: `  engine-provisioner import docker-compose.yaml > pools.yaml
  engine-provisioner import -- llama-server -hf a/b:Q4_K_M -c 8192 --port 8080 -ngl 99 > pools.yaml
  engine-provisioner import -- docker run --gpus all -p 8000:8000 vllm/vllm-openai:v0.12.0 --model Qwen/Qwen3-8B`,
		RunE: func(cmd *cobra.Command, args []string) error {
			imported, err := imported(cmd.ArgsLenAtDash(), args)
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
			if _, err := c.std.out.Write(text); err != nil {
				return err
			}
			c.warnOfImport(text)
			return nil
		},
	}
}

// imported imports what the arguments name; dash is how many stand before "--", negative without one.
func imported(dash int, args []string) (*importer.File, error) {
	switch {
	case len(args) == 0:
		return nil, errors.New("no file is named, and no command line; write it behind \"--\"")
	case dash == 0:
		return importer.Args(args, nil)
	case dash > 0:
		return nil, fmt.Errorf("cannot import %q together with a command line; import one after the other", args[0])
	case len(args) > 1:
		return nil, errors.New("cannot import several files at once, nor a command line that is not behind \"--\"")
	}
	return importer.ReadFile(args[0])
}

// warnOfImport tells what an engine of now does not take, as "validate" would: it stood there before.
func (c *cli) warnOfImport(text []byte) {
	_, err := provisioner.ParseConfig(text, "")
	var wrong *provisioner.ConfigError
	if errors.As(err, &wrong) {
		for _, problem := range wrong.Problems {
			c.say(fmt.Sprintf("warning: line %d: %s: %s", problem.Line, problem.Key, problem.Message))
		}
	}
}
