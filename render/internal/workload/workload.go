// Package workload is what a pool of a pools file becomes elsewhere: in a pod, a job or a service, where the manager looks after
// one replica. It holds what all renderers have in common.
//
// The packages below render call it. It starts nothing, and looks at no file but the header of a model.
package workload

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Places inside, which no image has for itself.
const (
	StateDir  = "/var/lib/engine-provisioner/state" // below the mount: a volume's own folder belongs to others
	StateRoot = "/var/lib/engine-provisioner"
	CacheDir  = "/var/cache/engine-provisioner"
	ConfigDir = "/etc/engine-provisioner"
	SecretDir = "/etc/engine-provisioner-secrets" //nolint:gosec // a folder
	ModelDir  = "/models"
	Command   = "/ep/engine-provisioner"
	HTTPPort  = 9464
)

// Margin is the time that a stop gets beyond its drain and its grace, for SIGKILL and the files.
const Margin = 15 * time.Second

// settle is how long an idle replica still serves once it is to stop, where the pool says nothing: kube-proxy and the like learn of
// it within a second or two, and clients that keep a list for longer were seen to need 4 s.
const settle = 4 * time.Second

// openLimit is how long a breaker may be open, where the pool says nothing, before the manager ends with the cause, so that who
// watches it sees that.
const openLimit = 15 * time.Minute

// Model is where the model comes from.
type Model struct {
	Folder string // on this machine, to be mounted at ModelDir; "" where the engine or the provisioner fetches it
	Cached bool   // it is fetched into CacheDir
}

// Workload is one pool elsewhere.
type Workload struct {
	Name     string // of the pool, as a DNS label
	Pool     provisioner.Pool
	Replicas int
	Image    string // of the engine
	Publish  string // the address of the node that the port is for
	Secrets  []Secret
	Model    Model
	GPUs     int
	Memory   settings.Size // by estimate; 0 where it cannot be told
	ShmSize  settings.Size // 0: whatever the place has
	Stop     time.Duration // from SIGTERM to the end of everything
	Start    time.Duration // until it is ready, preparation included
	Notes    []string      // what could not be carried over
}

// Place is where a replica runs.
type Place int

// The places.
const (
	Pod       Place = iota // a pod of a cluster: an address and files of its own, and others reach it
	Container              // a container on one node, whose port is published
	Node                   // a node of the same kind, with the same files
)

// Options say what a pools file does not.
type Options struct {
	// Image holds the engine, instead of the image that its authors publish. Pools of other modes than "container" need it, but
	// on a Node.
	Image string
	Place Place
}

// All are the pools of a configuration, or the one that is named.
func All(config *provisioner.Config, pool string, o Options) ([]Workload, error) {
	if _, err := config.Replicas(pool); err != nil {
		return nil, err
	}
	var all []Workload
	var failed []error
	names := map[string]string{}
	for _, p := range config.Pools {
		if pool != "" && p.ID != pool {
			continue
		}
		w, err := of(p, o)
		if err == nil && names[w.Name] != "" {
			err = fmt.Errorf("it would be named %q, as pool %q is; give it another id", w.Name, names[w.Name])
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("pool %q cannot be rendered: %w", p.ID, err))
			continue
		}
		names[w.Name] = p.ID
		all = append(all, w)
	}
	return all, errors.Join(failed...)
}

func of(p provisioner.Pool, o Options) (Workload, error) {
	program, spec, err := p.ProvisionConfig.Describe()
	if err != nil {
		return Workload{}, err
	}
	w := Workload{Name: Label(p.ID), Replicas: max(1, p.Replicas), Pool: p}
	if o.Place == Node {
		if p.WithDefaults().Provisioning.Mode == "container" {
			return Workload{}, errors.New("a container's runtime starts it outside of the task, which could not end it: name the engine by mode \"binary\", \"source\" or \"package\"")
		}
		w.secretVariables()
	} else {
		if err := w.executable(program, o); err != nil {
			return Workload{}, err
		}
		if err := w.address(o); err != nil {
			return Workload{}, err
		}
		w.model(program)
		if err := w.placed(o); err != nil {
			return Workload{}, err
		}
		w.secrets()
	}
	w.gpus(spec)
	c := &w.Pool.ProvisionConfig
	c.OnManagerExit = "kill" // nobody adopts there, and nothing may outlive its pod or job
	c.Logs.Stdout = true
	if c.Restart.OpenLimit == 0 && c.Restart.GiveUpAfter == 0 {
		c.Restart.OpenLimit = settings.Duration(openLimit)
	}
	if len(c.Needs) > 0 {
		w.note(`"needs: [%s]" is left out: each pool is started by itself there; a client waits for what it needs`, strings.Join(c.Needs, ", "))
		c.Needs, c.OnLoss = nil, ""
	}
	if o.Place != Node && c.Handoff != (settings.Handoff{}) {
		w.note(`"handoff" is left out: nobody else reads that folder there`)
		c.Handoff = settings.Handoff{}
	}
	drain := time.Duration(*c.WithDefaults().Drain.Timeout)
	if o.Place == Pod && c.Stop.Settle == 0 && drain > settle {
		c.Stop.Settle = settings.Duration(settle)
	}
	grace := time.Duration(c.Stop.Grace)
	if grace == 0 {
		grace = spec.Grace
	}
	w.Stop = drain + grace + Margin
	w.Start = time.Duration(c.WithDefaults().Ready.Timeout)
	if w.Model.Cached {
		w.Start += time.Hour // for what is fetched
	}
	if o.Place != Node {
		w.noteFiles()
	}
	w.Memory = estimate(localModel(&p.ProvisionConfig), spec)
	return w, nil
}

func (w *Workload) note(format string, args ...any) {
	w.Notes = append(w.Notes, fmt.Sprintf(format, args...))
}

// noteFiles tells of flags that name files, which are not there.
func (w *Workload) noteFiles() {
	for _, flag := range w.Pool.Flags {
		if value := flag[strings.Index(flag, "=")+1:]; strings.HasPrefix(value, "/") || strings.HasPrefix(value, "./") || strings.HasPrefix(value, "../") {
			w.note("the flag %q names a file of this machine: put it into the image or a volume, and correct the path", flag)
		}
	}
}

// executable finds the image, and the engine in it.
func (w *Workload) executable(program engine.Program, o Options) error {
	c := &w.Pool.ProvisionConfig
	inside := program.Command
	if len(program.Image.Entrypoint) > 0 {
		inside = program.Image.Entrypoint[0]
	}
	if program.Image.Executable != "" {
		inside = program.Image.Executable
	}
	container := settings.Container{}
	if c.Provisioning.Container != nil {
		container = *c.Provisioning.Container
	}
	w.ShmSize = container.ShmSize
	if w.ShmSize == 0 {
		w.ShmSize = settings.Size(program.Image.ShmSize)
	}
	mode := c.WithDefaults().Provisioning.Mode
	switch mode {
	case "container":
		w.Image = container.Reference(program.Image)
		if len(container.Entrypoint) > 0 {
			inside = container.Entrypoint[0]
			if len(container.Entrypoint) > 1 {
				return fmt.Errorf("its entrypoint %q is more than a program; name the program alone, and put the rest into \"flags\"", container.Entrypoint)
			}
		}
		if len(container.Volumes) > 0 {
			w.note(`"provisioning.container.volumes" is left out: add them to what is rendered`)
		}
		if container.User != "" {
			w.note(`"provisioning.container.user" is left out: the rendered user is one without rights`)
		}
	case "binary":
		b := c.Provisioning.Binary
		switch {
		case b != nil && (b.URL != "" || b.Release != ""): // it is fetched there, as here
			w.Image, w.Model.Cached = o.Image, true
			inside = ""
		case b != nil && b.Path != "":
			inside = b.Path
			if !strings.Contains(b.Path, "/") {
				break
			}
			if !path.IsAbs(b.Path) {
				return fmt.Errorf("\"provisioning.binary.path\" is relative to this machine's file; write the path in the image, or use mode \"container\"")
			}
		}
	case "package":
		w.Image, w.Model.Cached, inside = o.Image, true, ""
	default:
		return fmt.Errorf("mode %q builds on the node that runs it, and needs git, compilers and a volume there; build an image, and name it with mode \"container\"", mode)
	}
	if o.Image != "" {
		w.Image = o.Image
	}
	if w.Image == "" {
		return fmt.Errorf("nothing says which image has the engine; use mode \"container\", or name one with --engine-image")
	}
	if c.Custom != nil {
		return nil // its command is looked up in the image
	}
	if inside != "" {
		c.Provisioning = settings.Provisioning{Mode: "binary", Binary: &settings.Binary{Path: inside}}
	}
	return nil
}

// address makes it listen for others, each replica on the same port.
func (w *Workload) address(o Options) error {
	c := &w.Pool.ProvisionConfig
	w.Publish = c.WithDefaults().Host
	w.Pool.Replicas = 0
	switch {
	case c.APIKey != nil || c.Expose == settings.ExposeOpen:
	case o.Place == Container && c.Expose == "":
		c.Expose = settings.ExposeOpen
		w.note("it is published for this machine alone, and other containers of its network reach it without a key: add an \"api_key\" if there are any")
	default:
		return errors.New("others reach it there: add an \"api_key\", or write \"expose: open\" if a gateway holds the key")
	}
	c.Expose = cmp.Or(c.Expose, settings.ExposeKeyed)
	if c.Host = "0.0.0.0"; strings.Contains(w.Publish, ":") {
		c.Host = "::"
	}
	if c.Advertise == "" && o.Place == Pod {
		c.Advertise = "{pod_ip}"
	}
	return nil
}

// model finds what has to be mounted, and the path inside.
func (w *Workload) model(program engine.Program) {
	c := &w.Pool.ProvisionConfig
	id := c.Model.ID
	_, _, hub := models.HubName(id)
	switch {
	case id == "":
		return
	case hub, strings.HasPrefix(id, "https:"):
		w.Model.Cached = true
		return
	case program.Model == engine.ModelAny && !strings.HasPrefix(id, "local:") && !strings.HasPrefix(id, "file:"):
		return // words
	}
	file := localModel(c)
	w.Model.Folder = filepath.Dir(file)
	c.Model.ID = path.Join(ModelDir, filepath.Base(file))
}

// localModel is the path of a model that is no name on a server, as the configuration has been checked to have.
func localModel(c *provisioner.ProvisionConfig) string {
	file, err := models.LocalPath(c.Model.ID)
	if err != nil || filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(c.Dir, file)
}

// gpus counts them: which ones is the scheduler's matter.
func (w *Workload) gpus(spec engine.LaunchSpec) {
	c := &w.Pool.ProvisionConfig
	switch c.WithDefaults().GPU {
	case engine.GPURequired, engine.GPUUnmanaged:
		w.GPUs = max(1, spec.GPUs)
		if !c.Devices.Auto() {
			w.GPUs = max(w.GPUs, len(c.Devices))
		}
	case engine.GPUOptional:
		w.note(`"gpu: optional" asks for no GPU there; write "gpu: required" to get one`)
	}
	if len(c.Devices) > 0 {
		w.note(`"devices" is left out: the scheduler gives the replica %d of its GPUs`, w.GPUs)
		c.Devices = nil
	}
	if w.GPUs > 0 { // where the driver and the network are is known to the cluster, and told by these
		for _, name := range []string{"LD_LIBRARY_PATH", "NCCL_*"} {
			if !slices.Contains(c.InheritEnv, name) {
				c.InheritEnv = append(slices.Clone(c.InheritEnv), name)
			}
		}
	}
}
