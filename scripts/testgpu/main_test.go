//go:build linux && (amd64 || arm64)

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// asProgram makes the test binary the program, which finds the driver's library by a variable of the loader's.
const asProgram = "TESTGPU_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(enginetest.Run(m))
}

// machine is one with a GPU that is none: a driver's library, a server and a holder that agree about it. Its engine says that
// the GPU has the address bus.
func machine(t *testing.T, bus string) (args, env []string) {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("needs a C compiler")
	}
	dir := t.TempDir()
	held := filepath.Join(dir, "held")
	if err := os.Mkdir(held, 0o700); err != nil {
		t.Fatal(err)
	}
	library := exec.CommandContext(t.Context(), cc, "-shared", "-fPIC", fmt.Sprintf("-DHELD=%q", held), "-o", filepath.Join(dir, "libnvidia-ml.so.1"), "testdata/libnvidia-ml.c")
	if out, err := library.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	help, err := os.ReadFile("../../engine/llamacpp/testdata/help-b11669.txt")
	if err != nil {
		t.Fatal(err)
	}
	fake := enginetest.Install(t, enginetest.Behavior{
		Engine: enginetest.LlamaCPP, HelpText: string(help), VersionText: "version: 11434 (f5500d8)\nbuilt with GNU 12.2.0 for Linux x86_64\n",
	})
	fill := strings.NewReplacer("@FAKE@", fake, "@HELD@", held, "@BUS@", bus)
	for from, to := range map[string]string{"llama-server.sh": "llama-server", "vulkan-server.sh": "vulkan-server", "hold.sh": "hold"} {
		text, err := os.ReadFile(filepath.Join("testdata", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), []byte(fill.Replace(string(text))), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	env = append(os.Environ(), asProgram+"=1", "LD_LIBRARY_PATH="+dir, "TMPDIR="+t.TempDir())
	return []string{"-server", filepath.Join(dir, "llama-server"), "-hold", filepath.Join(dir, "hold"), "-vulkan", filepath.Join(dir, "vulkan-server")}, env
}

// repository is one of a project that becomes the server, by mode source with an nvcc that does nothing. As with a toolkit
// without the stub of the driver's library, it takes a flag.
func repository(t *testing.T, server string, env []string) (path string, with []string) {
	t.Helper()
	dir, tools := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(tools, "nvcc"): "#!/bin/sh\nexit 1\n",
		filepath.Join(dir, "main.c"): fmt.Sprintf("#include <unistd.h>\nint main(int argc, char **argv) { (void)argc; return execv(%q, argv); }\n", server),
		filepath.Join(dir, "CMakeLists.txt"): `cmake_minimum_required(VERSION 3.14)
project(engine C)
set(CMAKE_CUDA_COMPILER nvcc CACHE FILEPATH "")
if(NOT GGML_CUDA_NO_VMM)
  message(FATAL_ERROR "Target \"ggml-cuda\" links to:\n\n  CUDA::cuda_driver\n\nbut the target was not found.")
endif()
add_executable(llama-server main.c)
`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"add", "--all"},
		{"-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message=engine"},
		{"tag", "b11434"},
	} {
		if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return dir, append(env, "PATH="+tools+":"+os.Getenv("PATH"))
}

// program runs this program, and returns its output and its exit status.
func program(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = env
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Every assumption that can be tried holds on a machine that is as is assumed.
func TestAllHold(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"git", "cmake"} {
		if _, err := exec.LookPath(tool); err != nil && os.Getenv("CI") == "" {
			t.Skipf("needs %s", tool)
		}
	}
	args, env := machine(t, "0000:3b:00.0")
	source, env := repository(t, args[1], env)
	out, code := program(t, env, append([]string{"-source", source, "-ref", "b11434", "-cache", t.TempDir()}, args[2:]...)...)
	t.Log("\n" + out)
	if code != 0 {
		t.Errorf("exit status %d", code)
	}
	for _, a := range assumptions {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^%d +%s +(held|not checked) `, a.number, regexp.QuoteMeta(a.says))).FindStringSubmatch(out)
		untried := a.number == 14
		free := a.number == 1 // a namespace of its own takes rights
		if row == nil || !free && (row[1] == "held") == untried {
			t.Errorf("%d: %q", a.number, row)
		}
	}
}

// One that is not as is assumed is told, by the row and by the exit status.
func TestBroken(t *testing.T) {
	t.Parallel()
	args, env := machine(t, "0000:5e:00.0")
	out, code := program(t, env, append(args, "-rows", "2,13")...)
	if code != 1 || !regexp.MustCompile(`(?m)^2 .* BROKEN .* 0000:5e:00\.0, which is none of the GPUs`).MatchString(out) || !regexp.MustCompile(`(?m)^13 .* held `).MatchString(out) {
		t.Errorf("exit status %d:\n%s", code, out)
	}
}

func TestNothingToTry(t *testing.T) {
	t.Parallel()
	args, env := machine(t, "")
	if out, code := program(t, env, append(args, "-rows", "12")...); code != 3 || !strings.Contains(out, "nothing was tried") {
		t.Errorf("exit status %d:\n%s", code, out)
	}
	if out, code := program(t, append(env, "LD_LIBRARY_PATH=/nonexistent"), args...); code != 3 || out != "" {
		t.Errorf("without a driver: exit status %d:\n%s", code, out)
	}
}
