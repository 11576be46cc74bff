package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/hint"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/quickstart"
)

// addModelFlags adds what can be said about a model beside its name.
func addModelFlags(cmd *cobra.Command, req *quickstart.Request) {
	f := cmd.Flags()
	f.StringVar(&req.Engine, "engine", "", "llamacpp, vllm, sglang or tgi (default: what serves this kind of model)")
	f.Var((*portValue)(&req.Port), "port", "port to listen on, on 127.0.0.1 (default: the engine's usual one, such as 8080)")
	f.Var((*policyValue)(&req.GPU), "gpu", "required, optional or none (default: required where this host has a GPU, else none)")
	f.StringVar(&req.SHA256, "sha256", "", "checksum of the file that a URL names")
	policies := cobra.FixedCompletions([]string{"required", "optional", "none", "unmanaged"}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("gpu", policies)
	_ = cmd.RegisterFlagCompletionFunc("engine", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, e := range node.Engines(context.WithoutCancel(cmd.Context())) {
			if e.Command != "" {
				names = append(names, e.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if _, unknown := errors.AsType[*pflag.NotExistError](err); unknown {
			return fmt.Errorf(`%w; flags of the engine stand behind "--"`, hint.Flag(cmd, err))
		}
		return hint.Flag(cmd, err)
	})
}

// portValue is a TCP port, or 0 where none is given.
type portValue int

func (p *portValue) Type() string { return "number" }

func (p *portValue) String() string {
	if *p == 0 {
		return ""
	}
	return strconv.Itoa(int(*p))
}

func (p *portValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 65535 {
		return errors.New("write a number from 1 to 65535")
	}
	*p = portValue(n)
	return nil
}

// policyValue is a GPU policy, or "" where none is given.
type policyValue engine.GPUPolicy

func (p *policyValue) Type() string   { return "policy" }
func (p *policyValue) String() string { return string(*p) }

func (p *policyValue) Set(text string) error {
	switch policy := engine.GPUPolicy(text); policy {
	case engine.GPURequired, engine.GPUOptional, engine.GPUNone, engine.GPUUnmanaged:
		*p = policyValue(policy)
		return nil
	}
	return errors.New(`write "required", "optional", "none" or "unmanaged"`)
}

// makeDraft makes the configuration of the model and the engine's flags that args hold. req has the rest, and the model that is
// taken where none is named.
func makeDraft(cmd *cobra.Command, args []string, req quickstart.Request) (*quickstart.Draft, error) {
	help := cmd.CommandPath() + " --help"
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		args, req.Flags = args[:dash], args[dash:]
	}
	switch {
	case len(args) > 1:
		return nil, &usageError{err: fmt.Errorf(`unexpected argument %q; flags of the engine stand behind "--"`, args[1]), help: help}
	case len(args) == 1:
		req.Model = args[0]
	case req.Model == "":
		return nil, &usageError{err: errors.New("no model is named"), help: help}
	}
	draft, err := quickstart.Make(cmd.Context(), req)
	if _, many := errors.AsType[*quickstart.EngineError](err); many {
		err = fmt.Errorf("%w, by --engine", err)
	}
	switch _, config := errors.AsType[*provisioner.ConfigError](err); {
	case err == nil, config:
		return draft, err
	case interruption(cmd.Context()) != nil:
		return nil, interruption(cmd.Context())
	}
	return nil, &usageError{err: err}
}
