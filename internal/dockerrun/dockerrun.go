// Package dockerrun reads the command lines of "docker run" and "podman run" with the library that these use themselves. The
// package importer calls it, which knows what the flags mean.
package dockerrun

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/llama-orch/engine-provisioner/internal/redact"
)

// Flag is a flag by its long name, and its value as it stands there; "" for one that takes none.
type Flag struct{ Name, Value string }

// Run is a command line.
type Run struct {
	Flags   []Flag // by their names, and each in its order
	Image   string
	Command []string
}

// Find gives what stands behind "docker run", or its like; it is not ok for any other command.
func Find(args []string) (rest []string, ok bool) {
	if len(args) == 0 || !slices.Contains([]string{"docker", "podman", "nerdctl"}, path.Base(args[0])) {
		return nil, false
	}
	args = args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") { // of docker itself, such as --context NAME
		if flag := args[0]; !strings.Contains(flag, "=") && slices.Contains([]string{"--context", "-c", "--host", "-H", "--config", "--log-level", "-l", "--namespace", "-n"}, flag) && len(args) > 1 {
			args = args[1:]
		}
		args = args[1:]
	}
	if len(args) > 0 && args[0] == "container" {
		args = args[1:]
	}
	if len(args) > 0 && (args[0] == "run" || args[0] == "create") {
		return args[1:], true
	}
	return nil, false
}

// Flags of "docker run" and "podman run" that stand alone; all others take a value.
var switches = []string{
	"d,detach", "disable-content-trust", "help", "init", "i,interactive", "no-healthcheck", "oom-kill-disable", "privileged",
	"P,publish-all", "q,quiet", "read-only", "rm", "sig-proxy", "t,tty", "use-api-socket",
	"env-host", "http-proxy", "no-hostname", "no-hosts", "read-only-tmpfs", "replace", "rmi", "tls-verify", "passwd", "unsetenv-all",
}

var valued = []string{
	"add-host", "annotation", "a,attach", "blkio-weight", "blkio-weight-device", "cap-add", "cap-drop", "cgroup-parent", "cgroupns", "cidfile",
	"cpu-count", "cpu-percent", "cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "c,cpu-shares", "cpus", "cpuset-cpus", "cpuset-mems",
	"detach-keys", "device", "device-cgroup-rule", "device-read-bps", "device-read-iops", "device-write-bps", "device-write-iops", "dns",
	"dns-opt", "dns-option", "dns-search", "domainname", "entrypoint", "e,env", "env-file", "expose", "gpus", "group-add", "health-cmd",
	"health-interval", "health-retries", "health-start-interval", "health-start-period", "health-timeout", "h,hostname", "ip", "ip6", "ipc", "isolation",
	"kernel-memory", "l,label", "label-file", "link", "link-local-ip", "log-driver", "log-opt", "mac-address", "m,memory", "memory-reservation",
	"memory-swap", "memory-swappiness", "mount", "name", "net", "network", "net-alias", "network-alias", "oom-score-adj", "pid", "pids-limit",
	"platform", "p,publish", "pull", "restart", "runtime", "security-opt", "shm-size", "stop-signal", "stop-timeout", "storage-opt", "sysctl", "tmpfs",
	"ulimit", "u,user", "userns", "uts", "v,volume", "volume-driver", "volumes-from", "w,workdir",
	"arch", "authfile", "cgroups", "conmon-pidfile", "env-merge", "gidmap", "uidmap", "health-on-failure", "hooks-dir", "hostuser", "image-volume", "init-path",
	"os", "passwd-entry", "personality", "pidfile", "pod", "preserve-fds", "requires", "retry", "rootfs", "sdnotify", "secret", "seccomp-policy",
	"shm-size-systemd", "subgidname", "subuidname", "systemd", "timeout", "tz", "umask", "unsetenv", "variant",
}

// anyFlag keeps the values of a flag as they stand there.
type anyFlag struct {
	values []string
	kind   string
}

func (f *anyFlag) String() string     { return strings.Join(f.values, " ") }
func (f *anyFlag) Set(v string) error { f.values = append(f.values, v); return nil }
func (f *anyFlag) Type() string       { return f.kind }

// Read reads what stands behind "docker run".
func Read(args []string) (Run, error) {
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	set.SetInterspersed(false)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	define := func(name, kind, noOption string) {
		short, long, ok := strings.Cut(name, ",")
		if !ok {
			short, long = "", name
		}
		set.VarPF(&anyFlag{kind: kind}, long, short, "").NoOptDefVal = noOption
	}
	for _, name := range switches {
		define(name, "bool", "true")
	}
	for _, name := range valued {
		define(name, "string", "")
	}
	if err := set.Parse(args); err != nil {
		return Run{}, fmt.Errorf("cannot understand \"docker run\": %s", redact.Short(err.Error()))
	}
	rest := set.Args()
	if len(rest) == 0 {
		return Run{}, errors.New("cannot import \"docker run\" without an image")
	}
	run := Run{Image: rest[0], Command: rest[1:]}
	set.Visit(func(f *pflag.Flag) {
		flag, _ := f.Value.(*anyFlag)
		for _, value := range flag.values {
			if flag.kind == "bool" {
				value = ""
			}
			run.Flags = append(run.Flags, Flag{f.Name, value})
		}
	})
	return run, nil
}
