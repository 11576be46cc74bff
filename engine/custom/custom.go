// Package custom is the engine for any HTTP server that the configuration alone describes.
//
// It owns how the words of such a description become a launch: what is filled in where, and what is missing or cannot be. The
// provisioner has it built in; who wants another one builds on [Engine]. It is pure, like every engine: it touches no
// file, network, process or environment.
package custom

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// Engine describes any HTTP server by the configuration alone.
type Engine struct{}

// Name is "custom" in a configuration.
const Name = "custom"

// Name returns "custom".
func (Engine) Name() string { return Name }

// Program says how the executable is found: it is the first word of the command.
func (Engine) Program(req engine.Request) engine.Program {
	p := engine.Program{Model: engine.ModelAny}
	if req.Custom != nil && len(req.Custom.Command) > 0 {
		p.Command = req.Custom.Command[0]
		p.Image.Entrypoint = req.Custom.Command[:1]
	}
	return p
}

// Launch fills in the command. Nothing is known of the server's flags, so that the user's go after it as they are.
func (Engine) Launch(req engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	if req.Custom == nil {
		return engine.LaunchSpec{}, &engine.ConfigError{Problems: []engine.Problem{{
			Key:     "custom",
			Message: `is missing; say how the server is run, such as {command: [server, --host, "{host}", --port, "{port}"]}`,
		}}}
	}
	l := newLaunch(req, host)
	flags := l.command()
	flags = append(flags, l.userFlags()...)
	env := l.env()
	l.check()
	if len(l.problems) > 0 {
		return engine.LaunchSpec{}, &engine.ConfigError{Problems: l.problems}
	}
	c := *req.Custom
	spec := engine.LaunchSpec{
		Flags: flags, Env: env, KeyEnv: c.KeyEnv, KeySeparator: l.keySeparator(), Health: cmp.Or(c.Health, "/health"),
		Grace: cmp.Or(c.Grace, 5*time.Second), Causes: causes(), OpenAI: strings.TrimRight(c.OpenAI, "/"),
	}
	if len(host.GPUs) > 0 {
		// Of no meaning on the CPU: Triton complains of the driver, and goes on.
		spec.Causes = slices.Concat(causes(), gpuCauses())
	}
	if c.Version != nil {
		spec.Version = *c.Version
	}
	if c.Metrics != nil {
		// A gauge that is not there is found at the start, and not by the drain that cannot wait for it.
		spec.Metrics = &engine.MetricsContract{Path: c.Metrics.Path, Required: slices.Concat(c.Metrics.Required, c.Gauges, c.Counters)}
		if len(c.Gauges) > 0 {
			spec.Gauges = &engine.Gauges{Path: c.Metrics.Path, Names: c.Gauges}
		}
		if len(c.Counters) > 0 {
			spec.Counters = &engine.Counters{Path: c.Metrics.Path, Names: c.Counters}
		}
	}
	if c.Answer != nil {
		// The configuration knows what the server offers, so that a refusal is no sign of a model of another kind.
		spec.Answer, spec.MustAnswer = &engine.AnswerRequest{Path: c.Answer.Path, Body: l.body()}, true
	}
	return spec, nil
}

// launch gathers one launch, and all that is wrong with it.
type launch struct {
	req      engine.Request
	c        engine.Custom
	values   map[string]string // by placeholder
	stands   map[string]bool   // placeholders that were seen
	owned    map[string]string // names of flags whose value is filled in, with the placeholder
	problems []engine.Problem
}

func newLaunch(req engine.Request, host engine.Host) *launch {
	ids := make([]string, len(host.GPUs))
	for i, g := range host.GPUs {
		ids[i] = g.ID()
	}
	return &launch{
		req: req, c: *req.Custom, stands: map[string]bool{}, owned: map[string]string{},
		values: map[string]string{
			"{model}": cmp.Or(host.ModelPath, req.Model.ID), "{host}": cmp.Or(req.Host, "127.0.0.1"), "{port}": strconv.Itoa(req.Port),
			"{devices}": strings.Join(ids, ","), engine.TempDirPlaceholder: engine.TempDirPlaceholder,
		},
	}
}

func (l *launch) problem(key, format string, args ...any) {
	l.problems = append(l.problems, engine.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

var (
	placeholder = lazyregexp.New(`\{[A-Za-z_]+\}`)
	// wholeModel is where a model may stand: anywhere else, as in "sh -c" or "python -c", its name could become code.
	wholeModel = lazyregexp.New(`^([A-Za-z0-9_.-]+=)?\{model\}$`)
)

// fill puts values into the placeholders of text, and reports those that there are not.
func (l *launch) fill(key, text string, known ...string) (filled string, names []string) {
	names = placeholder.FindAllString(text, -1)
	for _, name := range names {
		l.stands[name] = true
		if slices.Contains(known, name) {
			continue
		}
		hint := "there are " + strings.Join(known, ", ")
		if name == engine.TempDirPlaceholder {
			hint = "the folder is in TMPDIR, which is set already"
		} else if near := nearest.Of(name, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		l.problem(key, "holds the unknown placeholder %q; %s", name, hint)
	}
	// With the brackets that an IPv6 address needs before a port.
	address := net.JoinHostPort(l.values["{host}"], l.values["{port}"])
	pairs := []string{"{host}:{port}", address}
	for _, name := range known {
		pairs = append(pairs, name, l.values[name])
	}
	return strings.NewReplacer(pairs...).Replace(text), names
}

// command is the arguments of the command. What is filled in belongs to the name of a flag before it; of the others that
// is not known, so that each stands alone.
func (l *launch) command() []engine.Flag {
	if len(l.c.Command) == 0 {
		l.problem("custom.command", `names no program; write it and its arguments, such as `+
			`[server, --host, "{host}", --port, "{port}"]`)
		return nil
	}
	switch program := l.c.Command[0]; {
	case placeholder.MatchString(program):
		l.problem("custom.command[0]", "is %q, and a program cannot be filled in; write its name or path", program)
	default:
		if wrong := keys.BadExecutable(program); wrong != "" {
			l.problem("custom.command[0]", "%s", wrong)
		}
	}
	var flags []engine.Flag
	for i, arg := range l.c.Command[1:] {
		key := fmt.Sprintf("custom.command[%d]", i+1)
		filled, names := l.fill(key, arg, "{model}", "{host}", "{port}", "{devices}", engine.TempDirPlaceholder)
		if strings.Contains(arg, "{model}") && !wholeModel.MatchString(arg) {
			l.problem(key, `holds {model} inside of other text; write it as an element of its own, or after "--name="`)
		}
		if strings.ContainsRune(arg, 0) {
			l.problem(key, "holds a NUL character; remove it")
		}
		flag := engine.Flag{Args: []string{filled}, Origin: engine.OriginConfig, Key: key}
		if len(names) > 0 {
			flag.Origin, flag.Note = engine.OriginProvisioner, strings.Join(names, ", ")+" filled in"
			before := l.c.Command[i]
			if name, _, joined := strings.Cut(arg, "="); joined && flagName(name) {
				l.owned[name] = names[0]
			} else if flagName(before) && i > 0 && !placeholder.MatchString(before) {
				l.owned[before] = names[0]
				flag.Args, flag.Key = []string{before, filled}, flags[len(flags)-1].Key
				flags = flags[:len(flags)-1]
			}
		}
		flags = append(flags, flag)
	}
	return flags
}

// userFlags is the flags list with the aliases replaced. Which of them take a value is not known, so that each element
// stands alone.
func (l *launch) userFlags() []engine.Flag {
	flags := make([]engine.Flag, len(l.req.Flags))
	for i, arg := range l.req.Flags {
		key := fmt.Sprintf("flags[%d]", i)
		name, value, joined := strings.Cut(arg, "=")
		flag := engine.Flag{Args: []string{arg}, Origin: engine.OriginConfig, Key: key}
		if to, ok := l.c.Aliases[name]; ok {
			flag.Note = fmt.Sprintf("rewritten from %q", name)
			name, flag.Args[0] = to, to
			if joined {
				flag.Args[0] += "=" + value
			}
		}
		if placeholder, owned := l.owned[name]; owned {
			l.problem(key, `%q stands in "custom.command" already, with %s; remove it here`, name, placeholder)
		}
		flags[i] = flag
	}
	return flags
}

// env is the server's variables.
func (l *launch) env() map[string]string {
	env := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(l.c.Env)) {
		key := keys.Join("custom.env", name)
		env[name], _ = l.fill(key, l.c.Env[name], "{model}", "{host}", "{port}", "{devices}")
		if wrong := keys.BadVariable(name); wrong != "" {
			l.problem(key, "%s", wrong)
		}
		if _, twice := l.req.Env[name]; twice {
			l.problem(key, `is set in "env", too; keep one of them`)
		}
		if strings.ContainsRune(env[name], 0) {
			l.problem(key, "holds a NUL character; remove it")
		}
	}
	return env
}

// check finds what is wrong beside the command.
func (l *launch) check() {
	c := l.c
	l.checkAddress()
	l.checkKey()
	l.checkPath("custom.health", cmp.Or(c.Health, "/health"))
	l.checkPath("custom.openai", cmp.Or(c.OpenAI, "/"))
	if c.Version != nil {
		l.checkPath("custom.version.path", c.Version.Path)
		if c.Version.Key == "" {
			l.problem("custom.version.key", `is missing; name the key in the page's JSON, such as "version"`)
		}
	}
	if c.Metrics != nil {
		l.checkPath("custom.metrics.path", c.Metrics.Path)
	}
	for _, series := range []struct {
		key   string
		names []string
	}{{"custom.counters", c.Counters}, {"custom.gauges", c.Gauges}} {
		if len(series.names) > 0 && c.Metrics == nil {
			l.problem(series.key, `stand on the metrics page, and there is none; write "metrics: {path: /metrics}", or remove them`)
		}
	}
	if c.Answer != nil {
		l.checkPath("custom.answer.path", c.Answer.Path)
		if !json.Valid([]byte(l.body())) {
			l.problem("custom.answer.body", `must be JSON, such as '{"prompt": "Hi", "max_tokens": 1}'`)
		}
	}
	if wrong := keys.BadDuration(c.Grace); c.Grace != 0 && wrong != "" {
		l.problem("custom.grace", "%s", wrong)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Aliases)) {
		key, to := keys.Join("custom.aliases", name), c.Aliases[name]
		_, again := c.Aliases[to]
		switch {
		case !flagName(name) || !flagName(to):
			l.problem(key, `must be the names of two flags, such as {-p: --parallel}`)
		case again:
			l.problem(key, "leads to %q, which is an alias itself; write the name that the server knows", to)
		}
	}
	if l.req.Executable != "" {
		l.problem("provisioning.binary.path", `"custom.command" names the program; remove this`)
	}
}

// checkAddress makes sure that the server is told what the rest of the file says of it.
func (l *launch) checkAddress() {
	switch host, port := l.stands["{host}"] || l.req.Expose, l.stands["{port}"]; {
	case len(l.c.Command) == 0: // which is told
	case !host && !port:
		l.problem("custom.command", `has no {host} and no {port}, so that the server would listen anywhere; `+
			`write both here, such as "--port={port}", or in "custom.env"`)
	case !port:
		l.problem("custom.command", `has no {port}, so that the server would not listen where it is asked; `+
			`write it here, such as "--port={port}", or in "custom.env"`)
	case !host:
		l.problem("custom.command", `has no {host}, so that other machines may reach the server; `+
			`write it here, such as "--host={host}", or in "custom.env", or allow that by "expose: true"`)
	}
	inBody := l.c.Answer != nil && strings.Contains(l.c.Answer.Body, "{model}")
	if (l.stands["{model}"] || inBody) && l.req.Model.ID == "" {
		l.problem("model.id", `is missing, and "custom" has a {model}; refer to the model, such as "local:/models/chat.gguf"`)
	}
}

// keySeparator is known of llama-server's variable, which other programs that hold one take, too.
func (l *launch) keySeparator() string {
	if l.c.KeyEnv == "LLAMA_API_KEY" {
		return ","
	}
	return ""
}

// checkKey makes sure that the server gets its key, and nothing else by that variable.
func (l *launch) checkKey() {
	const key = "custom.key_env"
	name := l.c.KeyEnv
	_, inEnv := l.req.Env[name]
	_, inCustom := l.c.Env[name]
	switch {
	case name == "" && l.req.HasKey:
		l.problem("api_key", "reaches the server by a variable alone; name that in %q", key)
	case name == "":
	case !keys.IsVariable(name):
		// The text is left out: it may be the key itself.
		l.problem(key, "must be the name of a variable (letters, digits and _), not its value")
	case keys.BadVariable(name) != "":
		l.problem(key, "%s", keys.BadVariable(name))
	case inEnv || inCustom:
		l.problem(key, `is set in "env", too; remove it there, and write the key as "api_key"`)
	}
}

// checkPath checks the path of a question.
func (l *launch) checkPath(key, path string) {
	u, err := url.Parse(path)
	switch {
	case path == "":
		l.problem(key, `is missing; write the path of the page, such as "/v1/page"`)
	case err != nil || !strings.HasPrefix(path, "/") || u.Host != "" || strings.ContainsAny(path, " \t\r\n#"):
		l.problem(key, `must be a path that begins with "/", is %q`, path)
	}
}

// body is the answer's question about the model.
func (l *launch) body() string {
	model, _ := json.Marshal(l.values["{model}"]) // text always can be
	return strings.ReplaceAll(l.c.Answer.Body, "{model}", string(model[1:len(model)-1]))
}

// flagName tells whether text can be the name of a flag.
func flagName(text string) bool {
	return strings.HasPrefix(text, "-") && strings.Trim(text, "-") != "" && !strings.ContainsAny(text, "= \t\n\x00")
}
