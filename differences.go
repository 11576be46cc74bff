package provisioner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/footprint"
	"github.com/llama-orch/engine-provisioner/internal/values"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Differences tells by which keys the replica's recorded launch, another than this one, differs from what Start would run: another executable,
// arguments, environment, address or GPUs. What has to be downloaded or built for cfg first is a difference, too; what
// only the provisioner acts on, such as a grace period, is none. Executables that are named without a folder, and caches,
// are looked for where the launch did that, whatever this program's environment says.
//
// It is nil when the launch is what Start would run. The error is ErrNotFound when nothing is recorded, or what Plan
// returns.
func (p *EngineProvisioner) Differences(ctx context.Context) ([]report.Difference, error) {
	if err := p.unknown("compare"); err != nil {
		return nil, err
	}
	files, err := filesOf(p.cfg.StateDir, p.cfg.fileStem())
	if err != nil {
		return nil, err
	}
	rec, err := readRecord(files)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: no record in %q", ErrNotFound, files.Dir())
	}
	if err != nil {
		return nil, err
	}
	differs, _, err := p.opts.differences(ctx, p.cfg, rec)
	if err != nil {
		return nil, p.startErrorIn(ctx, err)
	}
	return differs, nil
}

// differences tells by what a launch of cfg would differ from the recorded one, and what it would run if nothing is to be
// got first.
func (o *options) differences(ctx context.Context, cfg ProvisionConfig, rec record) ([]report.Difference, launchPlan, error) {
	there := *o
	there.supply.places = rec.Launch.Places
	engine, _ := o.engine(cfg.Engine)
	same := cfg
	same.Fit = "off" // how much memory there is now makes no difference to what is launched
	same.Advertise = ""
	if c := cfg.Provisioning.Container; cfg.contained() && rec.Runtime != "" && (c == nil || c.RuntimeSocket == "") {
		container := settings.Container{}
		if c != nil {
			container = *c
		}
		container.RuntimeSocket = rec.Runtime
		same.Provisioning.Container = &container
	}
	if cfg.Devices.Auto() && len(rec.Launch.GPUs) > 0 { // the choice would be another today: the engine has taken what was free
		same.Devices = nil
		for _, g := range rec.Launch.GPUs {
			same.Devices = append(same.Devices, settings.Device(g.ID()))
		}
	}
	lack := gpuLack(cfg, rec.Launch)
	prepared, pending, err := there.foresee(ctx, same, engine)
	if err != nil || len(pending) > 0 {
		return pending, launchPlan{}, err
	}
	plan, err := there.plan(ctx, same, prepared)
	if gpu := (*GPUError)(nil); len(lack) > 0 && errors.As(err, &gpu) { // there is none yet that it could run on
		return lack, launchPlan{}, nil
	}
	if err != nil {
		return nil, launchPlan{}, err
	}
	all := slices.Concat(lack, plan.differences(cfg, rec.Launch))
	for _, key := range cfg.rotated(rec.Launch) {
		if !slices.ContainsFunc(all, func(d report.Difference) bool { return d.Key == key }) { // which another reference says already
			all = append(all, report.Difference{Key: key, Why: "the secret changed"})
		}
	}
	return all, plan, nil
}

func (p launchPlan) differences(cfg ProvisionConfig, was launchRecord) []report.Difference {
	if was.Footprint.Empty() {
		if p.hash(cfg) == was.ConfigHash {
			return nil
		}
		return p.guessedDifferences(cfg, was)
	}
	var all []report.Difference
	for _, d := range was.Footprint.Differences(p.footprint(cfg)) {
		if d.Key == cfg.executableKey() && d.Was == d.Now { // of the file, only the digest
			d.Why = "the executable changed"
		}
		all = append(all, d)
	}
	return all
}

// guessedDifferences tells of a launch whose version did not record by what it was made what its command line and its
// executable tell, such as a default that has changed since.
func (p launchPlan) guessedDifferences(cfg ProvisionConfig, was launchRecord) []report.Difference {
	now := footprint.Footprint{Flags: p.footprint(cfg).Flags}
	var all []report.Difference
	if was.Digest != p.host.Binary.Digest {
		all = append(all, report.Difference{Key: cfg.executableKey(), Why: "the executable changed"})
	}
	if !strings.Contains(strings.Join(p.Args(), " "), engine.TempDirPlaceholder) { // which was a folder then
		all = append(all, footprint.Guessed(was.Args, now).Differences(now)...)
	}
	if len(all) == 0 {
		all = []report.Difference{{Why: "the version that launched it did not record by what"}}
	}
	return all
}

// executableKey is the key that decides on the executable.
func (c ProvisionConfig) executableKey() string {
	if c.Custom != nil && c.Provisioning.Binary == nil && c.Provisioning.Mode == "binary" {
		return "custom.command[0]"
	}
	return "provisioning." + c.Provisioning.Mode
}

// footprint is what makes it the launch that it is. What only the provisioner acts on is not in it.
func (p launchPlan) footprint(cfg ProvisionConfig) footprint.Footprint {
	f := footprint.Footprint{Flags: []footprint.Flag{}}
	for _, flag := range p.Flags {
		f.Flags = append(f.Flags, footprint.Flag{Key: flag.Key, Args: flag.Args})
	}
	f.Show("engine", cfg.Engine)
	f.Show(cfg.executableKey(), p.host.Binary.Path)
	f.Hide(cfg.executableKey(), p.host.Binary.Digest)
	f.Show("model.id", p.host.ModelPath)
	f.Show("Dir", p.Dir)
	f.Show("host", cfg.Host)
	f.Show("port", strconv.Itoa(cfg.Port))
	f.Show("on_manager_exit", cfg.OnManagerExit)
	ids := make([]string, len(p.GPUs))
	for i, g := range p.GPUs {
		ids[i] = g.ID()
	}
	f.Show("devices", strings.Join(ids, ","))
	if cfg.Devices.Auto() {
		f.Show("devices", values.AutoDevice) // what is chosen depends on what is free, and the engine itself has taken some
	}
	ofEngine := "env."
	if cfg.Custom != nil {
		ofEngine = "custom.env."
	}
	for name, value := range p.spec.Env {
		f.Hide(ofEngine+name, value)
	}
	for name, value := range cfg.Env {
		f.Hide("env."+name, footprintOf(value))
	}
	if cfg.APIKey != nil {
		f.Hide("api_key", p.spec.KeyEnv+" "+footprintOf(settings.EnvValue{Secret: cfg.APIKey}))
	}
	if cfg.contained() {
		addContainer(&f, cfg.Provisioning.Container)
	}
	return f
}

// footprintOf stands for a value; of a secret it is the reference, since the value is read at a start.
func footprintOf(v settings.EnvValue) string {
	if v.Secret != nil {
		return "from_env " + v.Secret.FromEnv + " from_file " + v.Secret.FromFile
	}
	return "is " + v.Value
}

// addContainer adds each key of the block. When an image is pulled is the provisioner's matter.
func addContainer(f *footprint.Footprint, c *settings.Container) {
	if c == nil {
		return
	}
	settings := *c
	settings.Pull = ""
	var keys map[string]json.RawMessage
	if data, err := json.Marshal(settings); err == nil {
		_ = json.Unmarshal(data, &keys) // what was just written
	}
	for key, value := range keys {
		f.Show("provisioning.container."+key, string(value))
	}
}

// hash is what schema 2 had before footprints, and what earlier versions still compare.
func (p launchPlan) hash(cfg ProvisionConfig) string {
	h := sha256.New()
	gpus := make([]string, len(p.GPUs))
	for i, g := range p.GPUs {
		gpus[i] = g.ID()
	}
	if cfg.Devices.Auto() {
		gpus = nil
	}
	what := []any{p.host.Binary.Digest, p.Args(), p.Dir, p.spec.Env, cfg.Env, cfg.APIKey, p.spec.KeyEnv, gpus}
	if cfg.contained() {
		what = append(what, cfg.Provisioning.Container, cfg.Host)
	}
	_ = json.NewEncoder(h).Encode(what) // maps are encoded in the order of their keys
	return hex.EncodeToString(h.Sum(nil))
}

// namesOf is the differences for people, in a line.
func namesOf(differs []report.Difference) string {
	names := make([]string, len(differs))
	for i, d := range differs {
		names[i] = d.String()
	}
	return strings.Join(slices.Compact(names), ", ")
}
