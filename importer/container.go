package importer

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/importer/internal/argline"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// container is how an engine runs in a container, wherever that was written.
type container struct {
	name, image string
	entrypoint  []string // nil: the image's own
	command     []string
	env         map[string]*string // nil: the value of whoever starts it
	refs        map[string]string  // of those: the name of the variable, where it is another
	ports       []published
	mounts      []mount
	gpu         gpuRequest
	network     string
	ipc         string
	shm         int64 // bytes
	user        string
	pull        string
	restart     string
	grace       string
	workdir     string   // in the container
	dir         string   // what relative paths of mounts refer to; "" for the working directory
	started     []string // how it was run, which is the provisioner's work now
	notes       []string
	opts        []provisioner.Option
}

// published is a port of the container that the host has; host is 0 where the runtime chooses one.
type published struct {
	ip           string
	host, target int
}

// mount is a folder of the host, or a volume, in the container.
type mount struct{ source, target, options string }

// gpuRequest is how GPUs were asked for.
type gpuRequest struct {
	all, runtime bool
	count        int
	ids          []string
	devices      []string // of other makers: device nodes
}

var errNoEngine = errors.New("no engine is known in it")

func (c *container) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// imageEngines are how the images of engines are known, by their names, and what starts their command.
var imageEngines = []struct {
	name    *lazyregexp.Regexp
	program []string
}{
	{lazyregexp.New(`llama[._-]?cpp|llama-server`), []string{"llama-server"}},
	{lazyregexp.New(`vllm`), []string{"vllm", "serve"}},
	{lazyregexp.New(`sglang`), []string{"sglang", "serve"}},
	{lazyregexp.New(`text-generation-inference|/tgi\b`), []string{"text-generation-launcher"}},
}

// line is the engine's command line in the container, and the entrypoint that was given for it; nil for the image's own.
func (c *container) line() (found command, entrypoint []string, err error) {
	full := slices.Concat(c.entrypoint, c.command)
	env := map[string]string{}
	for name, value := range c.env {
		if env[name] = "${" + name + "}"; value != nil {
			env[name] = *value
		}
	}
	if len(full) > 0 && !strings.HasPrefix(full[0], "-") {
		all, err := resolve(command{args: full, env: env, opts: c.opts}, 0)
		if err == nil && len(all) == 1 && all[0].startsEngine() {
			found, program := all[0], all[0].args[0]
			if !slices.Contains([]string{"vllm", "sglang", "text-generation-launcher"}, program) && !strings.HasPrefix(path.Base(program), "python") {
				if strings.ContainsRune(program, '/') && !path.IsAbs(program) && found.dir != "" {
					program = path.Join(found.dir, program)
				}
				entrypoint = []string{program} // of the others the launcher knows what starts them
			}
			return found, entrypoint, nil
		}
	}
	name := strings.ToLower(c.image)
	for _, known := range imageEngines {
		if !known.name.MatchString(name) {
			continue
		}
		if len(c.entrypoint) > 0 {
			return command{}, nil, fmt.Errorf("its entrypoint %s is a program that is not known; what that starts can be imported", show(strings.Join(c.entrypoint, " ")))
		}
		args := c.command
		switch tag := imageTag(name); {
		case known.program[0] == "llama-server" && strings.HasPrefix(tag, "light"):
			return command{}, nil, errors.New("the image has llama-cli, which is no server: its tags that begin with \"server\" have one")
		case known.program[0] == "llama-server" && strings.HasPrefix(tag, "full"):
			if len(args) == 0 || args[0] != "--server" && args[0] != "-s" {
				return command{}, nil, errors.New("its command starts no server: that is \"--server\" with this image")
			}
			args = args[1:]
			entrypoint = []string{"/app/llama-server"}
		case len(args) > 0 && args[0] == known.program[len(known.program)-1]: // "vllm/vllm-openai serve MODEL"
			args = args[1:]
		case len(args) > 0 && known.program[0] != "vllm" && !strings.HasPrefix(args[0], "-"):
			return command{}, nil, errNoEngine
		}
		return command{args: slices.Concat(known.program, args), env: env}, entrypoint, nil
	}
	return command{}, nil, errNoEngine
}

func imageTag(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[i+1:]
	}
	return ""
}

// pool makes the pool of a container.
func (c *container) pool() (*pool, error) {
	line, entrypoint, err := c.line()
	if err != nil {
		return nil, fmt.Errorf("cannot import the container of the image %q: %w", show(c.image), err)
	}
	gpu := c.gpu
	gpu.takeEnv(line.env)
	imported, err := readArgs(line.args, line.env, c.opts)
	if err != nil {
		return nil, fmt.Errorf("cannot import the container of the image %q: %w", show(c.image), err)
	}
	p := &pool{*imported}
	if c.name != "" {
		p.named(c.name)
	}
	p.Notes = slices.Concat(p.Notes, line.notes, c.notes)
	c.takeReferences(p)
	box := map[string]any{}
	if err := c.takeImage(p, box); err != nil {
		return nil, err
	}
	if entrypoint != nil {
		box["entrypoint"] = entrypoint
	}
	c.takePorts(p, box)
	c.takeMounts(p, box)
	gpu.take(p)
	c.takeRest(p, box)
	p.set("provisioning", map[string]any{"mode": "container", "container": box}, p.Keys["provisioning"].Note)
	return p, nil
}

// takeReferences names the variables whose values were those of whoever starts it.
func (c *container) takeReferences(p *pool) {
	env, _ := p.Keys["env"].Value.(map[string]argline.Value)
	key := block(p.Keys["api_key"].Value)
	for name, value := range c.env {
		if value != nil {
			continue
		}
		from := cmp.Or(c.refs[name], name)
		if _, ok := env[name]; ok {
			env[name] = argline.Value{FromEnv: from}
		}
		if key["from_env"] == name {
			key["from_env"] = from
		}
	}
}

func (c *container) takeImage(p *pool, box map[string]any) error {
	if strings.Contains(c.image, "$") {
		box["image"], box["tag"] = "image", "tag"
		p.decide("provisioning", nil, "the image was "+show(c.image)+": write its name and its tag")
		return nil
	}
	named, err := reference.ParseNormalizedNamed(c.image)
	if err != nil {
		return fmt.Errorf("cannot import the image %q: %w", show(c.image), err)
	}
	box["image"] = reference.FamiliarName(named)
	digested, pinned := named.(reference.Digested)
	if pinned {
		box["digest"] = digested.Digest().String()
	} else if tagged, ok := reference.TagNameOnly(named).(reference.Tagged); ok {
		box["tag"] = tagged.Tag()
	}
	return nil
}
