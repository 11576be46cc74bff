package node

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/tool"
	"github.com/llama-orch/engine-provisioner/settings"
)

// replicaOf is a replica of a pools file whose pool has these lines.
func replicaOf(t *testing.T, lines ...string) provisioner.ProvisionConfig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pools.yaml")
	text := "pools:\n  - id: chat\n    engine: llamacpp\n"
	for _, line := range lines {
		text += "    " + line + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := provisioner.LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := config.Replicas("")
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// Behind an executable that never answers, the rest is told without asking it again.
func TestProblemsAfterSilence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	asked, program, model := filepath.Join(dir, "asked"), filepath.Join(dir, "silent"), filepath.Join(dir, "model.gguf")
	if err := errors.Join(os.WriteFile(program, []byte("#!/bin/sh\n: >"+asked+"\n"), 0o700), os.WriteFile(model, nil, 0o600)); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	cfg := replicaOf(t, "port: "+strconv.Itoa(enginetest.FreePort(t, 1)), "gpu: none", "model: {id: "+model+"}", "api_key: {from_env: NO_SUCH_KEY}",
		"provisioning: {binary: {path: "+program+"}}")
	silent := &tool.AskError{Args: program + " --version", Err: context.DeadlineExceeded, Took: time.Minute}
	got := ProblemsAfter(t.Context(), cfg, silent, provisioner.WithCacheDir(t.TempDir()))
	for i, want := range []string{"did not answer", "is empty; fetch it again", "NO_SUCH_KEY"} {
		if len(got) != 3 || !strings.Contains(got[i].Error(), want) {
			t.Fatalf("%q, and %q as number %d expected", got, want, i)
		}
	}
	if _, err := os.Stat(asked); err == nil {
		t.Error("it was asked again")
	}
}

// What is wrong behind the first thing that is wrong is told, too, and what was only pretended for that is not.
func TestProblems(t *testing.T) {
	t.Parallel()
	server := enginetest.Install(t, enginetest.Behavior{})
	model := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(model, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	port := "port: " + strconv.Itoa(enginetest.FreePort(t, 1))
	for name, c := range map[string]struct {
		lines []string
		want  []string // parts of the errors, one each
	}{
		"nothing": {
			[]string{port, "gpu: none", "model: {id: " + model + "}", "provisioning: {binary: {path: " + server + "}}"},
			nil,
		},
		"all": {
			[]string{
				port, "gpu: none", "model: {id: absent.gguf}", "api_key: {from_file: key}", "env: {A: {from_env: NO_SUCH_VARIABLE}}",
				"provisioning: {binary: {path: ./absent}}",
			},
			[]string{"absent.gguf", "absent", "api_key: ", "env.A: "},
		},
		"a flag behind the model": {
			[]string{port, "gpu: none", "model: {id: absent.gguf}", "flags: [--no-such-flag]", "provisioning: {binary: {path: " + server + "}}"},
			[]string{"absent.gguf", "--no-such-flag"},
		},
		"a model that is no name of a file": {
			[]string{port, "gpu: none", "model: {id: absent}", "provisioning: {binary: {path: " + server + "}}"},
			[]string{"absent"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := replicaOf(t, c.lines...)
			got := Problems(t.Context(), cfg, provisioner.WithCacheDir(t.TempDir()))
			if len(got) != len(c.want) {
				t.Fatalf("%d problems, want %d: %v", len(got), len(c.want), got)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i].Error(), want) || !strings.HasPrefix(got[i].Error(), "chat/r0: ") && !strings.Contains(got[i].Error(), "pools.yaml:") {
					t.Errorf("problem %d: %v, want %q", i, got[i], want)
				}
			}
		})
	}
}

// A port that another program has is a problem; whoever has it is named.
func TestProblemsOfThePort(t *testing.T) {
	t.Parallel()
	l := listen(t)
	cfg := replicaOf(t, "port: "+l, "gpu: none", "model: {id: absent.gguf}")
	cfg.Provisioning = settings.Provisioning{Binary: &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{})}}
	got := Problems(t.Context(), cfg, provisioner.WithCacheDir(t.TempDir()))
	if _, ok := errors.AsType[*provisioner.StartError](got[len(got)-1]); !ok {
		t.Errorf("%T", got[len(got)-1])
	}
	if last := got[len(got)-1].Error(); !strings.Contains(last, "port "+l+" is not free: it is taken by ") {
		t.Error(got)
	}
	checks := DiagnoseReplica(t.Context(), cfg, provisioner.WithCacheDir(t.TempDir()))
	if len(checks) != len(got) || checks[0].Level != CheckProblem || checks[0].Name != "plan chat/r0" || strings.Contains(checks[0].Detail, "cannot start") {
		t.Errorf("%+v", checks)
	}
}

// listen has a port, until the test ends.
func listen(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
