package importer

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/shell"
	"github.com/llama-orch/engine-provisioner/internal/unitvalue"
	"github.com/llama-orch/engine-provisioner/internal/variables"
)

// systemdUnit makes a pools file of a service, or of a container of Podman's Quadlet. Files that it names are not read.
func systemdUnit(data []byte, path string, opts []provisioner.Option) (*File, error) {
	u := &unitFile{opts: opts, env: map[string]string{}, other: map[string][]string{}}
	if err := u.read(data); err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	file := &File{notes: u.notes}
	var pools []*pool
	var err error
	if u.quadlet {
		pools, err = u.container()
	} else {
		pools, err = u.service()
	}
	if err != nil {
		return nil, err
	}
	for _, p := range pools {
		p.Notes = slices.DeleteFunc(p.Notes, func(n string) bool { return strings.HasPrefix(n, "it was called ") })
		p.ID = poolID(strings.TrimSuffix(name, "@"))
		u.finish(p)
	}
	file.pools = pools
	file.unique()
	return file, nil
}

// unitFile is a unit that is read.
type unitFile struct {
	opts    []provisioner.Option
	quadlet bool
	env     map[string]string
	keys    map[string]string // of [Service] or [Container], the last of each
	lists   map[string][]string
	other   map[string][]string // what has no place, by section
	notes   []string
}

// foldAt keeps lines below what the reader takes (2048 bytes); systemd itself takes 1 MiB.
const foldAt = 1024

var commentLine = lazyregexp.New(`(?m)^[ \t]*[#;].*(\n|$)`)

// foldLines breaks long lines at blanks, which a backslash at the end of a line stands for.
func foldLines(data []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(data) {
		for len(line) > foldAt {
			i := bytes.LastIndexByte(line[:foldAt], ' ')
			if i <= 0 || line[i-1] == '\\' {
				break
			}
			out.Write(line[:i])
			out.WriteString("\\\n")
			line = line[i+1:]
		}
		out.Write(line)
	}
	return out.Bytes()
}

func (u *unitFile) read(data []byte) error {
	// Comments may stand between lines that belong together, which the reader does not know.
	options, err := unit.DeserializeOptions(bytes.NewReader(foldLines(commentLine.ReplaceAll(data, nil))))
	if err != nil {
		return fmt.Errorf("cannot read the unit: %s", show(err))
	}
	u.keys, u.lists = map[string]string{}, map[string][]string{}
	for _, o := range options {
		u.quadlet = u.quadlet || o.Section == "Container"
	}
	for _, o := range options {
		value := strings.TrimSpace(continued.ReplaceAllString(o.Value, " "))
		switch {
		case o.Section == "Service" || o.Section == "Container":
			if value == "" { // takes back what stood before
				delete(u.lists, o.Name)
				delete(u.keys, o.Name)
				continue
			}
			u.keys[o.Name] = value
			u.lists[o.Name] = append(u.lists[o.Name], value)
		default:
			u.other[o.Section] = append(u.other[o.Section], showSetting(o.Name, value))
		}
	}
	return nil
}

var continued = lazyregexp.New(`\\\r?\n`)

// takeEnvironment reads Environment= and says of EnvironmentFile= that it was not read.
func (u *unitFile) takeEnvironment(p *command) error {
	for _, value := range u.lists["Environment"] {
		words, err := unitvalue.Words(value)
		if err != nil {
			return fmt.Errorf("cannot read Environment=: %w", err)
		}
		for _, word := range words {
			name, v, ok := strings.Cut(u.specifiers(p, word), "=")
			if !ok {
				p.note("left out: Environment=%s: it is no NAME=VALUE", show(word))
				continue
			}
			u.env[name] = v
		}
	}
	for _, value := range u.lists["EnvironmentFile"] {
		p.note("decide: EnvironmentFile=%s was not read: write its variables under \"env\", and secrets as {from_env: NAME}", show(value))
	}
	for _, value := range u.lists["PassEnvironment"] {
		for _, name := range strings.Fields(value) {
			p.note("left out: PassEnvironment=%s: write \"env: {%s: {from_env: %s}}\"", show(name), show(name), show(name))
		}
	}
	return nil
}

var specifier = lazyregexp.New(`%[A-Za-z%]`)

// specifiers replaces "%%", and says of others that only systemd knows them.
func (u *unitFile) specifiers(p *command, text string) string {
	return specifier.ReplaceAllStringFunc(text, func(s string) string {
		if s == "%%" {
			return "%"
		}
		note := fmt.Sprintf("decide: %s stands for something that systemd knows (man systemd.unit, \"Specifiers\"); write it", s)
		if !slices.Contains(p.notes, note) {
			p.notes = append(p.notes, note)
		}
		return s
	})
}

// service makes the pools of a service.
func (u *unitFile) service() ([]*pool, error) {
	starts := u.lists["ExecStart"]
	if len(starts) == 0 {
		return nil, errors.New("it has no ExecStart=")
	}
	var pools []*pool
	for _, start := range starts {
		c := command{dir: u.keys["WorkingDirectory"], opts: u.opts}
		if !filepath.IsAbs(c.dir) {
			c.dir = ""
		}
		if err := u.takeEnvironment(&c); err != nil {
			return nil, err
		}
		if err := u.takeStart(&c, start); err != nil {
			return nil, err
		}
		found, err := resolve(c, 0)
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			p, err := one.pool()
			if err != nil {
				return nil, err
			}
			pools = append(pools, p)
		}
	}
	if len(pools) > 1 {
		pools[0].note("decide: ExecStart= stood there %d times: systemd ran them one after the other", len(starts))
	}
	return pools, nil
}

// takeStart reads the line of ExecStart.
func (u *unitFile) takeStart(c *command, start string) error {
	line := strings.TrimLeft(start, "-@:+!|")
	prefix := start[:len(start)-len(line)]
	if strings.Contains(prefix, "@") {
		c.note("left out: the \"@\" of ExecStart=, by which its second word was the name of the process")
	}
	if strings.ContainsAny(prefix, "+!") {
		c.note("left out: %q of ExecStart=, which gave it privileges", strings.Trim(prefix, "-@:|"))
	}
	if strings.Contains(prefix, "-") {
		c.note("left out: the \"-\" of ExecStart=: a failure is told")
	}
	words, err := unitvalue.Words(line)
	if err != nil {
		return fmt.Errorf("cannot read ExecStart=: %w", err)
	}
	if i := slices.Index(words, ";"); i >= 0 {
		c.note("left out: %s: systemd ran it afterwards", show(strings.Join(words[i+1:], " ")))
		words = words[:i]
	}
	if strings.Contains(prefix, "@") && len(words) > 1 {
		words = slices.Delete(words, 1, 2)
	}
	for _, word := range words {
		word = u.specifiers(c, word)
		if strings.Contains(prefix, ":") {
			c.args = append(c.args, word)
			continue
		}
		c.args = append(c.args, u.variables(c, word)...)
	}
	c.env = maps.Clone(u.env)
	return nil
}

// variables puts values in as systemd does: a word that is $NAME alone becomes several, "${NAME}" stays one.
func (u *unitFile) variables(c *command, word string) []string {
	lookup := func(name string) (string, bool) { value, ok := u.env[name]; return value, ok }
	if name, ok := strings.CutPrefix(word, "$"); ok && name != "" && variables.NameLength(name) == len(name) {
		if value, known := lookup(name); known {
			words, err := unitvalue.Words(value)
			if err != nil {
				words = strings.Fields(value)
			}
			return words
		}
	}
	text, unknown := variables.Expand(word, lookup)
	for _, name := range unknown {
		c.note("%s", shell.Unknown(name))
	}
	return []string{text}
}

// handled are the keys of [Service] that say something in a pool, or were told elsewhere.
var handled = []string{
	"ExecStart", "Environment", "EnvironmentFile", "PassEnvironment", "WorkingDirectory", "Restart", "RestartSec", "TimeoutStopSec", "TimeoutStartSec",
	"TimeoutSec", "User", "Group", "Type",
}

// finish says what became of the rest of the unit.
func (u *unitFile) finish(p *pool) {
	switch restart := u.keys["Restart"]; restart {
	case "", "no":
		if !u.quadlet || restart != "" {
			p.set("restart", map[string]any{"mode": "never"}, "")
		}
	case "always", "on-failure", "on-abnormal", "on-abort", "on-watchdog":
		if u.keys["RestartSec"] != "" {
			p.takeDuration("restart", "initial_delay", u.keys["RestartSec"])
		}
	default:
		p.note("left out: Restart=%s", show(restart))
	}
	for _, key := range []string{"TimeoutStopSec", "TimeoutSec"} {
		if value := u.keys[key]; value != "" && p.Keys["stop"].Value == nil {
			p.takeDuration("stop", "grace", value)
		}
	}
	if value := u.keys["TimeoutStartSec"]; value != "" && value != "0" && value != "infinity" {
		p.takeDuration("ready", "timeout", value)
	} else if value != "" {
		p.note("left out: TimeoutStartSec=%s: \"ready.timeout\" is 20 minutes, and at most 24 hours", value)
	}
	var user []string
	for _, key := range []string{"User", "Group"} {
		if value := u.keys[key]; value != "" && !u.quadlet {
			user = append(user, key+"="+show(value))
		}
	}
	if len(user) > 0 {
		p.note("left out: %s: an engine runs as the user that runs the provisioner, which \"engine-provisioner render systemd\" makes a unit for", strings.Join(user, ", "))
	}
	if dir := u.keys["WorkingDirectory"]; dir != "" {
		p.note("left out: WorkingDirectory=%s: relative paths in flags count from the folder of the pools file", show(dir))
	}
	if kind := u.keys["Type"]; kind != "" && kind != "simple" && kind != "exec" {
		p.note("left out: Type=%s: an engine stays in the foreground", show(kind))
	}
	var rest []string
	for _, key := range slices.Sorted(maps.Keys(u.lists)) {
		if slices.Contains(handled, key) || u.quadlet && slices.Contains(quadletKeys, key) {
			continue
		}
		for _, value := range u.lists[key] {
			if strings.HasPrefix(key, "Exec") {
				p.note("left out: %s=%s: nothing is run before or after an engine, but hooks of a drain", key, show(value))
				continue
			}
			rest = append(rest, showSetting(key, value))
		}
	}
	for _, section := range slices.Sorted(maps.Keys(u.other)) {
		rest = append(rest, u.other[section]...)
	}
	if len(rest) > 0 {
		p.note("left out: %s: it belongs to the provisioner's own unit, which \"engine-provisioner render systemd\" writes", strings.Join(rest, "; "))
	}
}

func showSetting(key, value string) string {
	if redact.Name(key) {
		value = redact.Word
	}
	return key + "=" + show(value)
}
