package node

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/secret"
)

// UnitSpec says for which program [SystemdUnit] writes a unit.
type UnitSpec struct {
	// Name is the unit's name without ".service", and that of its folders for state and cache. "" is "engine-provisioner".
	Name string
	// Executable is the absolute path of the engine-provisioner command.
	Executable string
	// User writes a unit for a user's own service manager (systemctl --user).
	User bool
}

// defaultEngineGrace is assumed where nobody names a longer grace. It is more than most engines' own.
const defaultEngineGrace = 30 * time.Second

// SystemdUnit returns the text of a systemd service that runs a pools file, from which config must have been loaded. It
// is tested with systemd 252. It looks at nothing but config and spec, so equal ones give equal texts.
//
// The manager may crash or be killed without its engines: systemd signals the manager alone.
func SystemdUnit(config *provisioner.Config, spec UnitSpec) (string, error) {
	name := cmp.Or(spec.Name, "engine-provisioner")
	file := config.File()
	if file == "" {
		return "", errors.New("cannot write a unit: the configuration comes from no file; load it with LoadConfig")
	}
	if !unitName.MatchString(name) {
		return "", fmt.Errorf("cannot write a unit named %q: write letters, digits, \"-\", \"_\" or \".\", beginning with a letter or digit", name)
	}
	if !filepath.IsAbs(spec.Executable) {
		return "", fmt.Errorf("cannot write a unit: the executable's path %q is not absolute", spec.Executable)
	}
	if strings.ContainsAny(spec.Executable, `"'\`) {
		return "", fmt.Errorf("cannot write a unit: systemd takes no quotes and backslashes in the executable's path %q; "+
			"install it elsewhere", spec.Executable)
	}
	replicas, err := config.Replicas("")
	if err != nil {
		return "", err
	}
	u := unit{
		spec: spec, name: name, file: file, config: config, replicas: replicas,
		folders: map[string]string{"state": "%S/" + name, "cache": "%C/" + name},
	}
	u.text()
	if u.err != nil {
		return "", u.err
	}
	return u.out.String(), nil
}

// unitName is narrower than systemd's: the name also stands for folders.
var unitName = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)

// unit is a unit that is being written.
type unit struct {
	spec     UnitSpec
	name     string
	file     string // the pools file
	config   *provisioner.Config
	replicas []provisioner.ProvisionConfig
	folders  map[string]string // as systemd names them
	out      strings.Builder
	err      error
}

func (u *unit) text() {
	load, end := u.times()

	u.section("Unit")
	u.set("Description", "LLM engines of "+u.plain(u.file))
	u.why("Models may be on disks that are mounted late.")
	u.set("RequiresMountsFor", u.words(u.mounts()...))
	if !u.spec.User {
		u.why("nvidia-persistenced loads the GPU driver.")
		u.set("After", "network.target nvidia-persistenced.service")
	}
	u.why("After five failures within ten minutes systemd gives up. Once repaired:\n" + u.systemctl() + " reset-failed " + u.name)
	u.set("StartLimitIntervalSec", "10min")
	u.set("StartLimitBurst", "5")

	u.section("Service")
	u.why("The unit counts as started when all replicas are ready. The manager reports that, and that it is alive.")
	u.set("Type", "notify")
	u.set("NotifyAccess", "main")
	u.set("WatchdogSec", "30s")
	u.why("A manager that is silent is told to write where it hangs, and is killed when it cannot do even that.")
	u.set("TimeoutAbortSec", "30s")
	place := "--config " + u.argument(u.file)
	if u.config.StateDir == "" {
		place += " --state-dir " + u.folders["state"]
	}
	u.set("ExecStart", u.quoted(u.spec.Executable)+" "+place)
	u.why("Reads the pools file again and replaces the replicas that it changes, one after the other.")
	u.set("ExecReload", u.quoted(u.spec.Executable)+" reload "+place)
	u.set("WorkingDirectory", u.plain(filepath.Dir(u.file)))
	u.why("The longest ready.timeout, plus time to ask executables for their version and to stop the engines that did start.")
	u.set("TimeoutStartSec", seconds(load+2*time.Minute+end))
	u.why("The longest drain.timeout and stop.grace, plus time to kill what outlives them. To stop at once:\n" +
		u.systemctl() + " kill --kill-whom=main -s TERM " + u.name)
	u.set("TimeoutStopSec", seconds(end))
	u.set("Restart", "on-failure")
	u.set("RestartSec", "5s")
	u.why("2 is a wrong configuration: another start would not help. 143 is SIGTERM during a load, which is no failure.")
	u.set("RestartPreventExitStatus", "2")
	u.set("SuccessExitStatus", "143")

	u.gap()
	u.why("Signals go to the manager alone, and so does SIGKILL when it hangs: it stops the engines in order, and a manager\n" +
		"that crashes must not end them.")
	u.set("KillMode", "process")
	if !u.spec.User { // whose service manager does not mark what it delegates (252 to 255), so that nobody may use it
		u.why("Each engine gets a cgroup of its own, by which its processes are found, ended and counted.")
		u.set("Delegate", "yes")
	}
	u.why("If the kernel kills one engine for lack of memory, the others go on. Engines have many threads.")
	u.set("OOMPolicy", "continue")
	u.set("TasksMax", "infinity")
	u.set("LimitNOFILE", "65536")
	if !u.spec.User {
		u.why("For llama-server --mlock.")
		u.set("LimitMEMLOCK", "infinity")
	}

	u.gap()
	u.storage()
	u.hardening()

	u.section("Install")
	target := "multi-user.target"
	if u.spec.User {
		target = "default.target"
	}
	u.set("WantedBy", target)
}

// times are the longest load and the longest stop of any replica; all load and stop at the same time.
func (u *unit) times() (load, end time.Duration) {
	for _, r := range u.replicas {
		r = r.WithDefaults()
		load = max(load, time.Duration(r.Ready.Timeout))
		end = max(end, time.Duration(*r.Drain.Timeout)+cmp.Or(time.Duration(r.Stop.Grace), engineGrace(r)))
	}
	// The tree gets SIGKILL after the grace, and the record is written at last.
	return load, end + proc.KillPatience + 10*time.Second
}

// engineGrace is the grace of a replica's engine, or a longer one.
func engineGrace(r provisioner.ProvisionConfig) time.Duration {
	_, spec, _ := r.Describe() // what is wrong with r, the loader has told
	return max(defaultEngineGrace, spec.Grace)
}

// mounts are the folders that must be there before the start.
func (u *unit) mounts() []string {
	paths := map[string]bool{filepath.Dir(u.file): true}
	for _, r := range u.replicas {
		program, _, _ := r.Describe()
		wanted := models.Request{ID: r.Model.ID, Dir: r.Dir, Kind: models.Kind(program.Model)}
		if ref, err := wanted.Ref(); err == nil && ref.Path != "" { // else the start tells
			paths[ref.Path] = true
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

// storage says where files and secrets are.
func (u *unit) storage() {
	state := u.replicas[0].StateDir
	below, underVar := strings.CutPrefix(filepath.Clean(state), "/var/lib/")
	switch {
	case u.config.StateDir == "":
		u.why("Records, logs and handoff files, for engine-provisioner status --state-dir …")
		u.set("StateDirectory", u.name)
	case underVar && !u.spec.User && unitName.MatchString(below):
		u.why("The state_dir of the file.")
		u.set("StateDirectory", below)
	case !u.spec.User:
		u.why("The state_dir of the file.")
		u.set("ReadWritePaths", u.words("-"+state))
	}
	if u.config.StateDir == "" || underVar {
		u.set("StateDirectoryMode", "0700")
	}
	u.why("Temporary files are here, not in /tmp: systemd removes files there after ten days, and with PrivateTmp at each\n" +
		"restart, while engines that outlive a crash of the manager still use theirs.")
	u.set("CacheDirectory", u.name)
	u.set("CacheDirectoryMode", "0700")
	u.set("Environment", "XDG_CACHE_HOME="+u.folders["cache"]+" TMPDIR="+u.folders["cache"])
	names, tokens := u.secrets()
	if len(names) > 0 {
		u.why("Secrets, one NAME=value a line, mode 0600: " + strings.Join(names, ", ") + ".")
	}
	for _, token := range tokens {
		u.why(token)
	}
	if len(names)+len(tokens) > 0 {
		u.set("EnvironmentFile", "-%E/"+u.name+".env")
	}
}

// secrets are the variables that the configuration reads, wherever it refers to one, and what can be said of the tokens that it
// does not name and may need.
func (u *unit) secrets() (names, tokens []string) {
	names = secret.References(u.replicas)
	hub, release := false, false
	for _, r := range u.replicas {
		hub = hub || strings.HasPrefix(r.Model.ID, "hf:")
		release = release || r.Provisioning.Binary != nil && r.Provisioning.Binary.Release != ""
	}
	if hub && !slices.Contains(names, "HF_TOKEN") {
		tokens = append(tokens, "HF_TOKEN, for a gated or private model of the Hugging Face hub, belongs there, too.")
	}
	if release && !slices.Contains(names, "GITHUB_TOKEN") {
		tokens = append(tokens, "GITHUB_TOKEN, for more look-ups of releases an hour than the 60 without, belongs there, too.")
	}
	return names, tokens
}

// hardening is what engines can run with. A user's service manager may not do most of it.
func (u *unit) hardening() {
	u.gap()
	u.why("Hardening that engines can run with. With NoNewPrivileges, an engine that does not run as root cannot load the\n" +
		"NVIDIA driver: load it at boot (nvidia-persistenced).")
	u.set("NoNewPrivileges", "yes")
	u.set("LockPersonality", "yes")
	u.set("RestrictSUIDSGID", "yes")
	u.set("SystemCallArchitectures", "native")
	if u.spec.User {
		return
	}
	u.set("ProtectSystem", "full")
	u.set("ProtectHostname", "yes")
	u.set("ProtectKernelTunables", "yes")
	u.why("Do not add these:\n" +
		"PrivateDevices, ProtectClock, DevicePolicy=closed hide the GPUs.\n" +
		"MemoryDenyWriteExecute breaks CUDA's and Triton's compilers, which write code and run it.\n" +
		"ProtectControlGroups takes the delegated cgroups away again.\n" +
		"RestrictRealtime breaks llama-server --prio; PrivateNetwork and PrivateIPC cut an engine off from its clients and workers.\n" +
		"ProtectHome hides models in home folders; ProtectSystem=strict makes read-only all folders that are not listed.\n" +
		"DynamicUser gives the user id of engines that outlive a crash to others.\n" +
		"Engines need no root: add User= and Group=, with access to models and GPUs, by systemctl edit.")
}

func (u *unit) systemctl() string {
	if u.spec.User {
		return "systemctl --user"
	}
	return "systemctl"
}

func (u *unit) section(name string) {
	u.gap()
	u.out.WriteString("[" + name + "]\n")
}

func (u *unit) gap() {
	if u.out.Len() > 0 {
		u.out.WriteString("\n")
	}
}

func (u *unit) why(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		u.out.WriteString("# " + line + "\n")
	}
}

func (u *unit) set(key, value string) { u.out.WriteString(key + "=" + value + "\n") }

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int64((d+time.Second-1)/time.Second)) }

// plain writes a path where systemd takes the rest of the line as it is, but for specifiers.
func (u *unit) plain(path string) string {
	if strings.ContainsFunc(path, unicode.IsControl) || !utf8.ValidString(path) || strings.HasSuffix(path, `\`) || strings.TrimSpace(path) != path {
		u.err = cmp.Or(u.err, fmt.Errorf("cannot write the path %q into a unit: systemd does not take it; rename it", path))
	}
	return strings.ReplaceAll(path, "%", "%%")
}

var unitEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// quoted writes a path as one word of several.
func (u *unit) quoted(path string) string {
	text := unitEscapes.Replace(u.plain(path))
	if text != path || strings.ContainsAny(text, " ';$") {
		return `"` + text + `"`
	}
	return text
}

// argument writes one argument of ExecStart, where variables are replaced, unlike in the program's path before them.
func (u *unit) argument(text string) string { return strings.ReplaceAll(u.quoted(text), "$", "$$") }

// words writes a list of paths.
func (u *unit) words(paths ...string) string {
	quoted := make([]string, len(paths))
	for i, path := range paths {
		quoted[i] = u.quoted(path)
	}
	return strings.Join(quoted, " ")
}
