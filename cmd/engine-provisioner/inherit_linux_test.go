package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/node"
)

// dump writes what a process has inherited into the folder in $to. The shell blocks signals for a moment when it starts
// another program, so that those are of the other.
const dump = `mkdir $to; cat /proc/self/status >$to/status; cat /proc/$$/limits >$to/limits; cat /proc/$$/stat >$to/stat
cat /proc/$$/oom_score_adj >$to/oom; cat /proc/$$/environ >$to/environ; readlink /proc/$$/cwd >$to/cwd
(ls -l /proc/$$/fd >$to/fds)
`

// inherited is what dump has written.
type inherited struct {
	t   *testing.T
	dir string
}

func (i inherited) read(name string) string {
	i.t.Helper()
	data, err := os.ReadFile(filepath.Join(i.dir, name))
	if err != nil {
		i.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// field is what comes after the name in a file of lines.
func (i inherited) field(file, name string) string {
	i.t.Helper()
	for line := range strings.Lines(i.read(file)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(value)
		}
	}
	i.t.Fatalf("no %q in %s", name, file)
	return ""
}

// descriptors are the open files but the shell's own script.
func (i inherited) descriptors(script string) map[string]string {
	i.t.Helper()
	fds := map[string]string{}
	for line := range strings.Lines(i.read("fds")) {
		link, target, ok := strings.Cut(strings.TrimSpace(line), " -> ")
		if ok && target != script {
			fds[link[strings.LastIndexByte(link, ' ')+1:]] = target
		}
	}
	return fds
}

// TestInherited holds everything that an engine inherits against docs/lifecycle.md. The command is called as a script in
// the background calls it: with a lock and a pipe open, signals ignored, and limits of its own.
func TestInherited(t *testing.T) {
	t.Parallel()
	path, _ := poolsFile(t, 1)
	dir := filepath.Dir(path)
	at := func(name string) string { return filepath.Join(dir, name) }
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), `path: "`)
	engine, _, _ := strings.Cut(after, `"`)
	wrapper, hook := at("llama-server"), at("hook")
	write := func(path, text string) {
		t.Helper()
		syscall.ForkLock.RLock() // see golang/go#22315
		defer syscall.ForkLock.RUnlock()
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(wrapper, "#!/bin/sh\nto="+at("asked")+"\ncase \"$*\" in *--port*) to="+at("engine")+";; esac\n"+
		"[ -e $to ] || { "+dump+"}\nexec "+engine+" \"$@\"\n")
	write(hook, "#!/bin/sh\nto="+at("hooked")+"\n"+dump)
	write(path, strings.NewReplacer(engine, wrapper, "gpu: none", "gpu: none, drain: {hooks: [{command: ["+hook+"]}]}").Replace(string(text)))

	cmd := command(t, []string{"STRAY=1", "LLAMA_ARG_PORT=1", "CUDA_CACHE_PATH=/cache"}, "--config", path, "--detach")
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0) // 20 less its niceness, as the system call has it
	if err != nil {
		t.Fatal(err)
	}
	wantNice := strconv.Itoa(min(20-own+5, 19))
	script := `trap '' HUP INT QUIT PIPE TERM USR1 USR2 ALRM CHLD TSTP TTIN TTOU
exec 9>lk 8<>pipe; flock -n 9 || exit 99
umask 027; ulimit -S -n 512; ulimit -c 0; echo 300 >/proc/self/oom_score_adj
exec nice -n 5 "$0" "$@"`
	self := at("engine-provisioner") // by this name the test binary becomes the command
	if err := os.Symlink(cmd.Path, self); err != nil {
		t.Fatal(err)
	}
	cmd.Args = append([]string{"sh", "-c", script, self}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.Dir = t.TempDir()
	for _, name := range []string{"lk", "pipe"} {
		if err := syscall.Mkfifo(filepath.Join(cmd.Dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(cmd.Dir, "lk")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}

	lock, err := os.Open(filepath.Join(cmd.Dir, "lk"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Errorf("the script has ended, and its lock is held: %v", err)
	}
	state := at("elsewhere")
	status, err := fleet.Statuses(state)
	if err != nil || len(status) != 1 {
		t.Fatal(status, err)
	}
	pid := strconv.Itoa(status[0].PID)
	p, err := provisioner.Attach(state, provisioner.ReplicaID{Pool: "default", Replica: "r0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}

	e, asked, hooked := inherited{t, at("engine")}, inherited{t, at("asked")}, inherited{t, at("hooked")}
	want := map[string]string{"0": os.DevNull, "1": status[0].Log, "2": status[0].Log, "3": filepath.Join(state, "default-r0", "engine.lock")}
	if got := e.descriptors(wrapper); !maps.Equal(got, want) {
		t.Errorf("the engine's descriptors: %v, want %v", got, want)
	}
	for what, tool := range map[string]map[string]string{"a question": asked.descriptors(wrapper), "a hook": hooked.descriptors(hook)} {
		if len(tool) != 3 || tool["0"] != os.DevNull || !strings.HasPrefix(tool["1"], "pipe:") || tool["2"] != tool["1"] {
			t.Errorf("descriptors of %s: %v", what, tool)
		}
	}
	const terminal = 1<<(syscall.SIGTSTP-1) | 1<<(syscall.SIGTTIN-1) | 1<<(syscall.SIGTTOU-1)
	const libc = 1<<31 | 1<<32 // its own two, which posix_spawn ignores in what GNU make runs; they cannot be handled
	for what, i := range map[string]inherited{"the engine": e, "a question": asked} {
		ignored, err := strconv.ParseUint(i.field("status", "SigIgn:"), 16, 64)
		if err != nil || ignored&^(terminal|libc) != 0 {
			t.Errorf("%s ignores signals: %#x, %v", what, ignored, err)
		}
		if blocked := i.field("status", "SigBlk:"); strings.Trim(blocked, "0") != "" {
			t.Errorf("%s has blocked signals: %s", what, blocked)
		}
		stat := i.read("stat")
		fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // from field 3 on
		if own := stat[:strings.IndexByte(stat, ' ')]; fields[2] != own || fields[3] != own || fields[4] != "0" {
			t.Errorf("%s: pid %s, group %s, session %s, terminal %s", what, own, fields[2], fields[3], fields[4])
		}
		if nice := fields[16]; nice != wantNice {
			t.Errorf("%s: nice %s, want %s", what, nice, wantNice)
		}
		if mask := i.field("status", "Umask:"); mask != "0027" {
			t.Errorf("%s: umask %s", what, mask)
		}
		if files := strings.Fields(i.field("limits", "Max open files")); files[0] != "512" {
			t.Errorf("%s: open files %v", what, files)
		}
		if core := strings.Fields(i.field("limits", "Max core file size")); core[0] != "0" || core[1] != "0" {
			t.Errorf("%s: core %v", what, core)
		}
		if score := i.read("oom"); score != "300" {
			t.Errorf("%s: oom score %s", what, score)
		}
	}
	if got := e.read("stat"); !strings.HasPrefix(got, pid+" ") {
		t.Errorf("this is not the engine, %s: %s", pid, got)
	}
	if got := e.read("cwd"); got != dir {
		t.Errorf("the engine's working directory: %s, want %s", got, dir)
	}
	var names []string
	for entry := range strings.SplitSeq(e.read("environ"), "\x00") {
		if name, _, ok := strings.Cut(entry, "="); ok {
			names = append(names, name)
		}
	}
	plan, err := node.Plan(t.Context(), planned(t, path))
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"CUDA_CACHE_PATH", "XDG_CACHE_HOME"} // of the command's own environment here
	for _, v := range plan.Env {
		known = append(known, v.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			t.Errorf("the engine has the variable %s, which plan does not name", name)
		}
	}
	if slices.Contains(names, "STRAY") || slices.Contains(names, "LLAMA_ARG_PORT") || !slices.Contains(names, "CUDA_CACHE_PATH") {
		t.Errorf("the engine's variables: %q", names)
	}
}

func planned(t *testing.T, path string) provisioner.ProvisionConfig {
	t.Helper()
	c, err := provisioner.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	replicas, err := c.Replicas("")
	if err != nil {
		t.Fatal(err)
	}
	return replicas[0]
}
