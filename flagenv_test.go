package provisioner

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
)

// Variables that are the twins of flags are judged as the flags are, and against them.
func TestFlagVariables(t *testing.T) {
	t.Parallel()
	old := engine.Host{}
	for _, tt := range []struct {
		env   string
		flags string
		host  engine.Host
		from  Provisioning
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
		{env: "LLAMA_ARG_NO_MMAP=1", flags: "--no-mmap", host: old, from: Provisioning{Binary: &BinaryConfig{Release: "b8895"}}, want: "says the same as env.LLAMA_ARG_NO_MMAP"},
		{env: "LLAMA_ARG_NO_MMAP=1", flags: "-c 1", host: old, from: Provisioning{Binary: &BinaryConfig{Release: "b8895"}}, args: "-c 1"},
	} {
		cfg := llamaConfig(strings.Fields(tt.flags)...)
		cfg.Provisioning, cfg.Env = tt.from, map[string]EnvValue{}
		for _, v := range strings.Fields(tt.env) {
			name, value, _ := strings.Cut(v, "=")
			cfg.Env[name] = EnvValue{Value: value}
		}
		if tt.from == (Provisioning{}) {
			tt.host = realHost(t)
		}
		spec, err := launchOf(llamacpp.Engine{}, cfg, tt.host)
		notes, args := fmt.Sprint(spec.Notes), strings.Join(LaunchPlan{Flags: spec.Flags}.Args(), " ")
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

// A real llama-server takes a variable as it is said here that it does.
func TestRealFlagVariables(t *testing.T) {
	t.Parallel()
	for env, status := range map[string]int{
		"LLAMA_ARG_ENDPOINT_SLOTS=1": http.StatusOK, "LLAMA_ARG_ENDPOINT_SLOTS=off": http.StatusNotImplemented,
		"LLAMA_ARG_NO_ENDPOINT_SLOTS=0": http.StatusNotImplemented,
	} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			cfg := realConfig(t, tiny)
			name, value, _ := strings.Cut(env, "=")
			cfg.Env = map[string]EnvValue{name: {Value: value}}
			p, _ := ready(t, cfg)
			resp, err := http.Get(p.handoff.URL + "/slots")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("/slots answers %d, want %d", resp.StatusCode, status)
			}
		})
	}
}
