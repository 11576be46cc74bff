package llamacpp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
)

// Variables that are the twins of flags are judged as the flags are, and against them.
func TestFlagVariables(t *testing.T) {
	t.Parallel()
	old := engine.Host{}
	for _, tt := range []struct {
		env   string
		flags string
		host  engine.Host
		from  string // a release that is pinned
		want  string // of the error; "" for none
		note  string // of those in LaunchSpec.Notes; "" for none
		args  string // the last of the command line; "" for what is not looked at
	}{
		{env: "LLAMA_ARG_JINJA=1", flags: "--no-jinja", want: `flags[0]: "--no-jinja" contradicts "LLAMA_ARG_JINJA" in env.LLAMA_ARG_JINJA`},
		{env: "LLAMA_ARG_JINJA=0", flags: "--jinja", want: `flags[0]: "--jinja" contradicts "LLAMA_ARG_JINJA"`},
		{env: "LLAMA_ARG_JINJA=0", flags: "--no-jinja", want: `says the same as env.LLAMA_ARG_JINJA`},
		{env: "LLAMA_ARG_JINJA=", flags: "--jinja", want: `flags[0]: "--jinja" says the same as env.LLAMA_ARG_JINJA, or the contrary`},
		{env: "LLAMA_ARG_JINJA=maybe", want: `env.LLAMA_ARG_JINJA: "LLAMA_ARG_JINJA" switches something on or off: write 1 or 0`},
		{env: "LLAMA_ARG_NO_JINJA=1", flags: "--jinja", want: "contradicts"},
		{env: "LLAMA_ARG_NO_JINJA=0", flags: "--no-jinja", want: "says the same"},
		{env: "LLAMA_ARG_NO_JINJA=0", note: `env.LLAMA_ARG_NO_JINJA it says no by being there, whatever its value; to say yes, write "LLAMA_ARG_JINJA"`},
		{env: "LLAMA_ARG_NO_JINJA=1"},
		{env: "LLAMA_ARG_JINJA=1 LLAMA_ARG_NO_JINJA=1", want: `env.LLAMA_ARG_NO_JINJA: "LLAMA_ARG_NO_JINJA" and "LLAMA_ARG_JINJA" are about the same`},
		{env: "LLAMA_ARG_NO_CTX_SIZE=1", want: "knows no such variable"}, // there is no --no-ctx-size
		{env: "LLAMA_ARG_CTX_SIZE=512", flags: "-c 1024", want: "-c\" and env.LLAMA_ARG_CTX_SIZE say different things, of which the engine takes the flag's"},
		{env: "LLAMA_ARG_CTX_SIZE=512", flags: "-c 512", want: "says the same as env.LLAMA_ARG_CTX_SIZE"},
		{env: "LLAMA_ARG_CTX_SIZE=many", want: `env.LLAMA_ARG_CTX_SIZE: "LLAMA_ARG_CTX_SIZE" takes a number`},
		{env: "LLAMA_ARG_FLASH_ATTN=maybe", want: `"LLAMA_ARG_FLASH_ATTN" takes on, off or auto`},
		{env: "LLAMA_ARG_FLASH_ATTN=1"},
		{env: "LLAMA_ARG_PORT=1", want: `"LLAMA_ARG_PORT" cannot be given: it is set from "port"`},
		{env: "LLAMA_ARG_MODEL=m", want: "it is set from \"model\""},
		{env: "LLAMA_ARG_N_GPU_LAYERS=few", want: `env.LLAMA_ARG_N_GPU_LAYERS: "LLAMA_ARG_N_GPU_LAYERS" takes a whole number, all or auto`},

		// Those of older builds.
		{env: "LLAMA_ARG_NO_MMAP=1", args: "--load-mode none"},
		{env: "LLAMA_ARG_NO_MMAP=1 LLAMA_ARG_MLOCK=1", args: "--load-mode mlock"},
		{env: "LLAMA_ARG_NO_MMAP=1", flags: "--load-mode mmap", want: "write that once"},
		{env: "LLAMA_ARG_NO_MMAP=0", want: "knows no such variable"},
		{env: "LLAMA_ARG_NO_MMPROJ=1", args: "--no-mmproj"},
		{env: "LLAMA_ARG_DRAFT_MAX=8", want: `write the flag "--draft-max"`},
		{env: "LLAMA_ARG_CTX_SIZE_DRAFT=8", want: "knows no such variable"},
		{env: "LLAMA_ARG_NO_MMAP=1", flags: "--no-mmap", host: old, from: "b8895", want: "says the same as env.LLAMA_ARG_NO_MMAP"},
		{env: "LLAMA_ARG_NO_MMAP=1", flags: "-c 1", host: old, from: "b8895", args: "-c 1"},
	} {
		req := request(strings.Fields(tt.flags)...)
		for _, v := range strings.Fields(tt.env) {
			name, value, _ := strings.Cut(v, "=")
			req.Env[name] = value
		}
		if tt.from == "" {
			tt.host = enginetable.LlamaServer(t)
		} else {
			req.Versions = []engine.Version{{Name: tt.from, From: "release"}}
		}
		spec, err := llamacpp.Engine{}.Launch(req, tt.host)
		notes := fmt.Sprint(spec.Notes)
		var all []string
		for _, f := range spec.Flags {
			all = append(all, f.Args...)
		}
		args := strings.Join(all, " ")
		switch {
		case tt.want != "":
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("%s %s: got %v, want %q", tt.env, tt.flags, err, tt.want)
			}
		case err != nil:
			t.Errorf("%s %s: %v", tt.env, tt.flags, err)
		case tt.note == "" && notes != "[]" || !strings.Contains(notes, tt.note):
			t.Errorf("%s %s: notes %s, want %q", tt.env, tt.flags, notes, tt.note)
		case tt.args != "" && !strings.HasSuffix(args, " "+tt.args):
			t.Errorf("%s %s: %q, want %q at the end", tt.env, tt.flags, args, tt.args)
		}
	}
}
