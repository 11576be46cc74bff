package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/llama-orch/engine-provisioner/quickstart"
)

// initialFile is a new pools file as --output json tells it.
type initialFile struct {
	File  string   `json:"file,omitempty"` // "" for one on stdout
	Text  string   `json:"text"`
	Notes []string `json:"notes,omitempty"`
}

func (c *cli) initCommand() *cobra.Command {
	var req quickstart.Request
	file := usualFile
	cmd := &cobra.Command{
		Use:   "init [MODEL] [-- ENGINE-FLAG...]",
		Short: "Write a first pools file, with comments",
		Long: `Write a pools file with comments that runs a model on this host as it is: "gpu" by what the host has, a port that is
free, and an engine that is not in PATH is brought, as a release that is downloaded, a Python package that is installed,
or a container. MODEL and the flags are those of "run"; without MODEL it is a small one of the Hugging Face hub. A file
that exists is never overwritten.`,
		Example: `  engine-provisioner init chat.gguf
  engine-provisioner init Qwen/Qwen3-8B --engine vllm -- --max-model-len 8192
  engine-provisioner init --file - > elsewhere.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.words = commandWords
			req.Obtain, req.NextPort = true, true
			if file != "-" {
				req.Dir = filepath.Dir(file)
			}
			req.Model = quickstart.SampleModel
			draft, err := makeDraft(cmd, args, req)
			if err != nil {
				return err
			}
			if len(args) == 0 || cmd.ArgsLenAtDash() == 0 {
				c.say("model: " + quickstart.SampleModel + "; none was named")
			}
			text, err := draft.YAML()
			if err != nil {
				return err
			}
			written := initialFile{Text: string(text), Notes: draft.Notes}
			if file != "-" {
				written.File = file
				if err := writeNew(file, text); err != nil {
					return err
				}
			}
			return c.showInitial(written)
		},
	}
	addModelFlags(cmd, &req)
	cmd.Flags().StringVarP(&file, "file", "f", usualFile, `where to write it; "-" is stdout`)
	_ = cmd.MarkFlagFilename("file", "yaml", "yml")
	return cmd
}

// writeNew writes a file that does not exist yet: whatever else has the name stays as it is.
func writeNew(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &usageError{err: fmt.Errorf("cannot write %q: it exists, and is not overwritten; choose another --file, or remove it", file)}
	}
	if err != nil {
		return fmt.Errorf("cannot write the pools file: %w; choose another --file", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("cannot write the pools file: %w", err), os.Remove(file)) // half of one would be in the way of the next
	}
	return nil
}

func (c *cli) showInitial(f initialFile) error {
	if c.output.json {
		return writeJSON(c.std.out, f)
	}
	for _, note := range f.Notes {
		c.say(note)
	}
	if f.File == "" {
		_, err := fmt.Fprint(c.std.out, f.Text)
		return err
	}
	run := "engine-provisioner"
	if filepath.Clean(f.File) != usualFile {
		run += " --config " + f.File
	}
	_, err := fmt.Fprintf(c.std.out, "%s is written; %q runs it\n", f.File, run)
	return err
}
