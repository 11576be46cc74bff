package importer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kballard/go-shellquote"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/shell"
)

// swapFile is a llama-swap configuration.
type swapFile struct {
	opts               []provisioner.Option
	Macros             map[string]any       `yaml:"macros"`
	Models             map[string]swapModel `yaml:"models"`
	StartPort          any                  `yaml:"startPort"`
	HealthCheckTimeout any                  `yaml:"healthCheckTimeout"`
	GlobalTTL          any                  `yaml:"globalTTL"`
	Groups             map[string]swapGroup `yaml:"groups"`
	Hooks              map[string]any       `yaml:"hooks"`
	Rest               map[string]any       `yaml:",inline"`
}

type swapModel struct {
	Cmd           string         `yaml:"cmd"`
	Env           []string       `yaml:"env"`
	Proxy         string         `yaml:"proxy"`
	CheckEndpoint string         `yaml:"checkEndpoint"`
	TTL           any            `yaml:"ttl"`
	Name          string         `yaml:"name"`
	Macros        map[string]any `yaml:"macros"`
	Rest          map[string]any `yaml:",inline"`
}

type swapGroup struct {
	Swap       *bool          `yaml:"swap"`
	Exclusive  *bool          `yaml:"exclusive"`
	Persistent bool           `yaml:"persistent"`
	Members    []string       `yaml:"members"`
	Rest       map[string]any `yaml:",inline"`
}

// llamaSwap makes a pools file of a llama-swap configuration: a pool of each model.
func llamaSwap(data []byte, opts []provisioner.Option) (*File, error) {
	_, root, err := document(data)
	if err != nil {
		return nil, err
	}
	swap := swapFile{opts: opts}
	if err := root.Decode(&swap); err != nil {
		return nil, fmt.Errorf("cannot understand the llama-swap configuration: %s", show(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	if len(swap.Models) == 0 {
		return nil, errors.New("it has no models")
	}
	file := &File{}
	file.notes = append(file.notes, swap.about()...)
	ports := swap.ports()
	names := slices.DeleteFunc(keysOf(root, "models"), func(name string) bool { _, ok := swap.Models[name]; return !ok })
	for _, name := range slices.Sorted(maps.Keys(swap.Models)) {
		if !slices.Contains(names, name) { // of a block that is merged in
			names = append(names, name)
		}
	}
	for _, name := range names {
		pools, err := swap.pools(name, ports[name])
		if err != nil {
			file.notes = append(file.notes, fmt.Sprintf("decide: the model %s: %s", show(name), show(err)))
			continue
		}
		file.pools = append(file.pools, pools...)
	}
	if len(file.pools) == 0 {
		return nil, fmt.Errorf("no pool can be made of its models: %s", show(file.notes[len(file.notes)-1]))
	}
	file.unique()
	return file, nil
}

// about says what became of the settings that are about all models.
func (f *swapFile) about() []string {
	var notes []string
	if _, known := f.StartPort.(int); f.StartPort != nil && !known {
		notes = append(notes, "decide: startPort: "+show(f.StartPort)+" is not known; ports count from llama-swap's default")
	}
	if len(f.Models) > 1 {
		notes = append(notes, "decide: llama-swap loads a model when it is asked for, and mostly one at a time; here all pools run at once. "+
			"Run those that fit together with --pool, or choose \"devices\"")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Groups)) {
		g := f.Groups[name]
		how := "one of them at a time"
		if g.Swap != nil && !*g.Swap {
			how = "all at once"
		}
		if g.Persistent {
			how += ", kept when others are asked for"
		}
		if g.Exclusive != nil && !*g.Exclusive {
			how += ", beside other groups"
		}
		notes = append(notes, fmt.Sprintf("left out: the group %s ran %s: %s", show(name), how, show(strings.Join(g.Members, ", "))))
		if len(g.Rest) > 0 {
			notes = append(notes, fmt.Sprintf("left out: in the group %s: %s", show(name), show(strings.Join(slices.Sorted(maps.Keys(g.Rest)), ", "))))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Hooks)) {
		notes = append(notes, "left out: hooks."+showKey(name, f.Hooks[name])+": each pool is started at once")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Rest)) {
		if nothing(f.Rest[name]) {
			continue
		}
		switch name {
		case "apiKeys":
			notes = append(notes, "left out: apiKeys: llama-swap asked for them; an engine asks for one with \"api_key: {from_env: NAME}\"")
		case "peers":
			notes = append(notes, "left out: peers: "+show(strings.Join(slices.Sorted(maps.Keys(block(f.Rest[name]))), ", "))+": a pools file is about this machine")
		default:
			notes = append(notes, "left out: "+showKey(name, f.Rest[name])+": a setting of llama-swap itself")
		}
	}
	return notes
}

// ports gives each model the port that llama-swap gives it: in the order of names, to those that have the word ${PORT}.
func (f *swapFile) ports() map[string]int {
	ports := map[string]int{}
	next, known := f.StartPort.(int)
	if !known || next < 1 || next > 65535-len(f.Models) {
		next = 5800 // its default
	}
	for _, name := range slices.Sorted(maps.Keys(f.Models)) {
		cmd, _, err := f.expand(name, f.Models[name].Cmd, 0)
		if err == nil && strings.Contains(cmd, "${PORT}") || strings.Contains(f.Models[name].Proxy, "${PORT}") {
			ports[name] = next
			next++
		}
	}
	return ports
}

var macro = lazyregexp.New(`\$\{([A-Za-z0-9_.-]+)\}`)

// maxExpanded bounds what macros can expand to.
const maxExpanded = 1 << 18

// expand puts macros in, those of the model before those of the file; they may hold one another. PORT stays where port is 0.
func (f *swapFile) expand(name, text string, port int) (string, []string, error) {
	for range 32 {
		changed := false
		text = macro.ReplaceAllStringFunc(text, func(m string) string {
			key := m[2 : len(m)-1]
			var value any
			switch {
			case key == "MODEL_ID":
				value = name
			case key == "PORT" && port > 0:
				value = port
			default:
				var ok bool
				if value, ok = f.Models[name].Macros[key]; !ok {
					if value, ok = f.Macros[key]; !ok {
						return m
					}
				}
			}
			changed = true
			return fmt.Sprint(value)
		})
		if len(text) > maxExpanded {
			return "", nil, errors.New("its macros expand to more than 256 KiB")
		}
		if !changed {
			var unknown []string
			for _, m := range macro.FindAllString(text, -1) {
				if m != "${PORT}" && m != "${PID}" && !slices.Contains(unknown, m) {
					unknown = append(unknown, m)
				}
			}
			return text, unknown, nil
		}
	}
	return "", nil, errors.New("its macros hold one another without an end")
}

// pools makes the pool of a model; more than one only where its command starts several.
func (f *swapFile) pools(name string, port int) ([]*pool, error) {
	m := f.Models[name]
	if strings.TrimSpace(m.Cmd) == "" {
		return nil, fmt.Errorf("it has no cmd: llama-swap passes its requests on to %s", show(m.Proxy))
	}
	cmd, unknown, err := f.expand(name, m.Cmd, port)
	if err != nil {
		return nil, err
	}
	args, err := shellquote.Split(withoutComments(cmd))
	if err != nil {
		return nil, fmt.Errorf("cannot split its cmd: %w", err)
	}
	env := map[string]string{}
	for _, pair := range m.Env {
		pair, missing, err := f.expand(name, pair, port)
		if err != nil {
			return nil, err
		}
		key, value, _ := strings.Cut(pair, "=")
		env[key] = value
		unknown = append(unknown, missing...)
	}
	found, err := resolve(command{args: args, env: env, opts: f.opts}, 0)
	if err != nil {
		return nil, err
	}
	var pools []*pool
	for i, c := range found {
		p, err := c.pool()
		if err != nil {
			return nil, err
		}
		id := name
		if len(found) > 1 {
			id += "-" + strconv.Itoa(i)
		}
		p.Notes = slices.DeleteFunc(p.Notes, func(n string) bool { return strings.HasPrefix(n, "it was called ") })
		p.named(id)
		for _, u := range unknown {
			if strings.HasPrefix(u, "${env.") {
				p.note("decide: %s is a variable of llama-swap's environment; write its value, or {from_env: NAME} under \"env\"", show(u))
				continue
			}
			p.note("%s", shell.Unknown(u))
		}
		if p.Engine == "custom" && port > 0 {
			p.placeWord(strconv.Itoa(port), "{port}")
		}
		f.takeProxy(p, m, name, port)
		f.takeModel(p, m)
		pools = append(pools, p)
	}
	return pools, nil
}
