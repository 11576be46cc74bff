package provisioner

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/foreign"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// maxProblems is more than anyone reads at once; a file of a wrong kind can hold a hundred thousand.
const maxProblems = 100

var (
	idPattern     = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)
	devicePattern = regexp.MustCompile(`^((0|[1-9][0-9]{0,3})|(GPU|MIG)-[0-9A-Za-z][0-9A-Za-z/-]*)$`)
	sizePattern   = regexp.MustCompile(`^([0-9]+)((?:[KMGT]i?)?B)$`)
	groupPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?$`)
	sha256Pattern = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)
	indexPattern  = regexp.MustCompile(`\[\d+\]`)
)

// origin is where a configuration was read. It gives a problem its line, also long after the file was read.
type origin struct {
	file      string
	dir       string
	prefix    string // the part of the file that this is about, such as "pools[0]"; "" for all of it
	positions map[string]strictyaml.Position
}

func (o *origin) inside(prefix string) *origin {
	if o == nil {
		return nil
	}
	in := *o
	in.prefix = prefix
	return &in
}

// path is a key relative to the origin as it counts from the top of the file.
func (o *origin) path(key string) string {
	if o.prefix != "" && key != "" {
		return o.prefix + "." + key
	}
	return o.prefix + key
}

// at is where a key stands, or the nearest block around it that is there.
func (o *origin) at(key string) strictyaml.Position {
	for {
		if p, ok := o.positions[key]; ok || key == "" {
			return p
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
}

// locate completes a problem whose key is relative to the origin.
func (o *origin) locate(p Problem) Problem {
	if o == nil || p.Line > 0 {
		return p
	}
	p.Key = o.path(p.Key)
	at := o.at(p.Key)
	p.Line, p.Column = at.Line, at.Column
	return p
}

// configError makes an error of problems whose keys are relative to the replica, such as "flags[2]".
func (c ProvisionConfig) configError(problems ...Problem) *ConfigError {
	e := &ConfigError{}
	if c.origin != nil {
		e.File = c.origin.file
	}
	for _, p := range problems {
		e.Problems = append(e.Problems, c.origin.locate(p))
	}
	return e
}

// Validate checks a configuration made in Go by the rules of [LoadConfig], which does so itself. Its error is a
// *[ConfigError] with all problems.
func (c *Config) Validate(opts ...Option) error {
	located := *c
	if c.origin == nil {
		located.origin = &origin{}
	}
	k := newChecker(opts, located.origin)
	k.config(&located)
	return k.err()
}

// Validate checks one replica, by the rules of [LoadConfig] and without looking at the host. Its error is a
// *[ConfigError] with all problems. [New] does the same.
func (c ProvisionConfig) Validate(opts ...Option) error {
	k := newChecker(opts, c.origin)
	for _, id := range []struct{ key, value string }{{"PoolID", c.PoolID}, {"ReplicaID", c.ReplicaID}} {
		if !idPattern.MatchString(id.value) {
			k.report(id.key, "%s", badID(id.value))
		}
	}
	for _, dir := range []struct{ key, value string }{{"StateDir", c.StateDir}, {"Dir", c.Dir}} {
		if strings.ContainsRune(dir.value, 0) {
			k.report(dir.key, "holds a NUL character; remove it")
		}
	}
	k.fields(c)
	k.replica("", c)
	return k.err()
}

// checker collects the problems of a configuration.
type checker struct {
	options  options
	origin   *origin
	problems []Problem
	reported map[string]bool // keys that have a problem already: one is enough to begin with
	skip     map[string]bool // keys that could not be read: nothing can be said about what they hold
}

func newChecker(opts []Option, o *origin) *checker {
	return &checker{options: newOptions(opts), origin: o, reported: map[string]bool{}, skip: map[string]bool{}}
}

// unread takes over what did not fit when the file was decoded.
func (k *checker) unread(problems []strictyaml.Problem) {
	for _, p := range problems {
		k.problems = append(k.problems, Problem{Line: p.Line, Column: p.Column, Key: p.Key, Message: p.Message})
		if !p.Unknown {
			k.skip[p.Key] = true
		}
		if p.Meant != "" {
			k.skip[p.Meant] = true
		}
	}
}

// orForeign is err, or what is to be told instead: that the file is another tool's.
func orForeign(err error, data []byte, file string) error {
	kind := foreign.Of(data, file)
	if !kind.Importable() {
		return err
	}
	k := newChecker(nil, &origin{file: file})
	k.report("", "this is %s, not a pools file; make one of it: engine-provisioner import %q", kind.Article(), cmp.Or(file, "FILE"))
	return k.err()
}

func (k *checker) report(key, format string, args ...any) {
	if k.reported[key] || k.skipped(key) {
		return
	}
	k.reported[key] = true
	k.problems = append(k.problems, k.origin.locate(Problem{Key: key, Message: fmt.Sprintf(format, args...)}))
}

func (k *checker) skipped(key string) bool {
	for {
		if k.skip[key] {
			return true
		}
		if key == "" {
			return false
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
}

// unreadIn tells whether something inside key could not be read.
func (k *checker) unreadIn(key string) bool {
	for skipped := range k.skip {
		if strings.HasPrefix(skipped, key) {
			return true
		}
	}
	return k.skipped(key)
}

// written tells whether the file holds the key, as opposed to a zero value for want of it.
func (k *checker) written(key string) bool {
	if k.origin == nil {
		return false
	}
	_, ok := k.origin.positions[k.origin.path(key)]
	return ok
}

func (k *checker) err() error {
	if len(k.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(k.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	e := &ConfigError{Problems: k.problems}
	if k.origin != nil {
		e.File = k.origin.file
	}
	if more := len(e.Problems) - maxProblems; more > 0 {
		e.Problems = append(e.Problems[:maxProblems:maxProblems],
			Problem{Message: fmt.Sprintf("and %d more problems", more)})
	}
	return e
}

// config checks a whole file.
func (k *checker) config(c *Config) {
	if k.skip[""] {
		return
	}
	k.fields(c)
	if strings.ContainsRune(c.StateDir, 0) {
		k.report("state_dir", "holds a NUL character; remove it")
	}
	if strings.HasPrefix(c.StateDir, "~") {
		k.report("state_dir", "is %q, and ~ is not expanded; write the whole path", c.StateDir)
	}
	first := map[string]int{}
	var replicas []ProvisionConfig
	for i, p := range c.Pools {
		key := fmt.Sprintf("pools[%d]", i)
		if k.written(key+".replicas") && p.Replicas == 0 {
			k.report(key+".replicas", "must be from 1 to 256, is 0; remove the pool to run none of it")
		}
		if before, twice := first[p.ID]; twice {
			k.report(key+".id", "is %q like that of pools[%d]; give each pool an id of its own", p.ID, before)
		} else {
			first[p.ID] = i
		}
		last := p.Port + max(1, p.Replicas) - 1
		if last > 65535 && p.Port <= 65535 {
			k.report(key+".port", "%d replicas from port %d on need the ports up to %d, beyond 65535; begin lower",
				p.Replicas, p.Port, last)
		}
		if !k.anyReported(key+".id", key+".port", key+".replicas") {
			for r := range max(1, p.Replicas) {
				replicas = append(replicas, c.replica(i, r))
			}
		}
		k.replica(key+".", c.replica(i, 0))
	}
	for _, p := range k.options.checkReplicas(replicas) {
		k.report(p.Key, "%s", p.Message)
	}
}

func (k *checker) anyReported(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return k.reported[key] || k.skipped(key) })
}

// checkReplicas finds replicas that cannot run beside each other. The key of a problem counts from the file, or says
// which element of the slice it is about.
func (o *options) checkReplicas(replicas []ProvisionConfig) []Problem {
	var problems []Problem

	ports, files, groups := map[int]int{}, map[string]int{}, map[string]int{}
	told := map[[2]string]bool{} // one problem for two pools, however many replicas they have
	report := func(i int, field string, before int, format string, args ...any) {
		a, b := replicas[i], replicas[before]
		pair := [2]string{field + a.PoolID, b.PoolID}
		if a.origin != nil && told[pair] {
			return
		}
		told[pair] = true
		key := fmt.Sprintf("[%d].%s", i, field)
		if a.origin != nil {
			key = a.origin.prefix + "." + field
		}
		problems = append(problems, Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	for i, c := range replicas {
		file := c.StateDir + "\x00" + c.fileStem()
		if before, ok := files[file]; ok {
			other := replicas[before]
			report(i, "id", before, "replicas %s and %s would share the handoff file %s.json; rename one",
				other.Name(), c.Name(), c.fileStem())
		} else {
			files[file] = i
		}
		if before, ok := groups[c.StateDir]; !ok && c.Handoff.Group != "" {
			groups[c.StateDir] = i
		} else if ok && c.Handoff.Group != "" && replicas[before].Handoff.Group != c.Handoff.Group {
			report(i, "handoff.group", before, "is %q, and that of pool %s is %q; the folder of the handoffs has one group: write the same, or use two state directories",
				c.Handoff.Group, replicas[before].PoolID, replicas[before].Handoff.Group)
		}
		if before, ok := ports[c.Port]; ok {
			report(i, "port", before, "replica %s needs port %d, which %s has; every replica needs a port of its own",
				c.Name(), c.Port, replicas[before].Name())
		} else {
			ports[c.Port] = i
		}
	}
	for i, sides := range o.sidePorts(replicas) {
		for _, side := range sides {
			if before, ok := ports[side.Number]; ok {
				report(i, "port", before, `replica %s needs port %d for %s, and %s has it; change the "port" or "flags" that it comes from`,
					replicas[i].Name(), side.Number, side.Use, replicas[before].Name())
			} else {
				ports[side.Number] = i
			}
		}
	}
	return problems
}

// sidePorts are the ports of each replica beside the configured one. Most engines have none, which one replica of a pool
// tells for all: a launch takes some ten microseconds to be described, and there can be 65535.
func (o *options) sidePorts(replicas []ProvisionConfig) [][]engine.Port {
	all := make([][]engine.Port, len(replicas))
	has := map[[2]string]bool{}
	for i, c := range replicas {
		pool := [2]string{c.PoolID, c.Engine}
		e, known := o.engine(c.Engine)
		if some, asked := has[pool]; !known || asked && !some {
			continue
		}
		spec, _ := describe(e, c.WithDefaults(), engine.Host{}) // what is wrong with it is told elsewhere
		all[i], has[pool] = spec.Ports, len(spec.Ports) > 0
	}
	return all
}

// ValidateReplicas checks each replica, and that they can run beside each other on one node: no two of them may have the
// same port or files. The error is a *ConfigError.
func ValidateReplicas(cfgs []ProvisionConfig, opts ...Option) error {
	o := newOptions(opts)
	if problems := o.checkReplicas(cfgs); len(problems) > 0 {
		return &ConfigError{Problems: problems}
	}
	for _, cfg := range cfgs {
		if err := cfg.Validate(opts...); err != nil {
			return err
		}
	}
	return nil
}
