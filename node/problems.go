package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/tool"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Problems returns all that keeps a launch of cfg from starting here, as far as it can be told without one; nil when nothing is
// known to. Where [Plan] ends at the first, such as a model that is missing, this goes on: to the executable, to the flags, to the
// GPUs, and to what only a start looks at, secrets and the port. Errors are those of Plan, or name the replica. Nothing is started
// but the executable's own --version and --help. A replica that runs has its port.
func Problems(ctx context.Context, cfg provisioner.ProvisionConfig, opts ...provisioner.Option) []error {
	_, problems := foresee(ctx, cfg, opts)
	return problems
}

// ProblemsAfter is [Problems] of which first is known, an error of [Plan] or [Inspect]: that is not sought again, which of an
// executable that never answers takes a minute.
func ProblemsAfter(ctx context.Context, cfg provisioner.ProvisionConfig, first error, opts ...provisioner.Option) []error {
	return after(ctx, cfg, first, opts)
}

func foresee(ctx context.Context, cfg provisioner.ProvisionConfig, opts []provisioner.Option) (report.Plan, []error) {
	plan, err := Plan(ctx, cfg, opts...)
	return plan, after(ctx, cfg, err, opts)
}

// after are the problems of cfg of which err is the first; nil where there is none of a plan.
func after(ctx context.Context, cfg provisioner.ProvisionConfig, err error, opts []provisioner.Option) []error {
	var all []error
	add := func(err error) {
		same := func(other error) bool {
			return other.Error() == err.Error() || cause(err) != "" && cause(other) == cause(err)
		}
		if err != nil && !slices.ContainsFunc(all, same) {
			all = append(all, err)
		}
	}
	add(err)
	if err != nil && ctx.Err() == nil {
		silent := deaf(err)
		if way, ok := cfg.SuggestedProvisioning(opts...); ok && silent { // it was asked before the model was looked for
			other := cfg
			other.Provisioning = way
			if _, err := Plan(ctx, other, opts...); cause(err) != engine.CauseDownload && !ofKey(err, executableKey) {
				add(err)
			}
		}
		for _, rest := range behind(cfg, opts) {
			if silent && rest.Provisioning.Mode == cfg.Provisioning.Mode && rest.Provisioning.Binary == cfg.Provisioning.Binary {
				continue // that it does not answer is known, and took a minute to learn
			}
			_, err := Plan(ctx, rest, opts...)
			if silent = silent || deaf(err); !pretence(err) {
				add(err)
			}
		}
	}
	for _, err := range secretsOf(cfg) {
		add(fmt.Errorf("%s: %w", cfg.Name(), err))
	}
	add(portOf(cfg, opts))
	return all
}

// deaf reports whether an error is that of an executable that never answers.
func deaf(err error) bool {
	ask, ok := errors.AsType[*tool.AskError](err)
	return ok && ask.Deaf()
}

// portOf is the error of a start whose port somebody else has.
func portOf(cfg provisioner.ProvisionConfig, opts []provisioner.Option) error {
	problem, err := port.Try(cmp.Or(cfg.Host, "127.0.0.1"), cfg.Port, ofEngine)
	if err == nil && problem.Reason == port.Taken && !runs(cfg, opts) {
		return &provisioner.StartError{
			Failure: provisioner.Failure{Replica: cfg.Name(), Cause: engine.CausePortInUse, Advice: problem.Advice, Retry: true},
			Err:     fmt.Errorf("port %d is not free: %s", cfg.Port, problem.Text),
		}
	}
	return nil
}

// ofEngine tells a process of an engine that was started here, whatever its state directory: it prints to its log.
func ofEngine(pid int) (what, advice string) {
	state := filepath.Dir(filepath.Dir(filepath.Dir(procfs.Output(pid)))) // <state>/<replica>/logs/<n>.log
	all, _ := provisioner.Statuses(state)                                 // what is none has none
	launch, marked := procfs.Env(pid, proc.MarkEnv)
	for _, s := range all {
		if marked && s.LaunchID == launch {
			return fmt.Sprintf("the engine %s of the state directory %q", s.ID(), state),
				fmt.Sprintf(`stop that one (engine-provisioner stop --state-dir %s %s), or change "port"`, state, s.ID())
		}
	}
	return "", ""
}

// behind are cfg as if its model were yet to be fetched, then as if it needed no GPU, and as if its executable were yet to be
// fetched: what is wrong with those is what is wrong with the rest of cfg, but for what the pretence itself brings.
func behind(cfg provisioner.ProvisionConfig, opts []provisioner.Option) (all []provisioner.ProvisionConfig) {
	if cfg.Model.ID != "" && cfg.Custom == nil {
		cfg.Model = settings.Model{ID: "https://host.invalid/model.gguf", SHA256: strings.Repeat("0", 64)}
		if _, err := provisioner.New(cfg, opts...); err != nil { // its engine takes folders; of a commit the hub is not asked
			cfg.Model = settings.Model{ID: "hf:owner/model@" + strings.Repeat("0", 40)}
		}
		all = append(all, cfg)
	}
	without := cfg
	without.GPU, without.Devices = engine.GPUNone, nil
	all = append(all, without)
	if way, ok := cfg.SuggestedProvisioning(opts...); ok && cfg.Provisioning.Mode != "container" {
		cfg.Provisioning = way
		all = append(all, cfg)
	}
	return all
}

// pretence reports whether an error may be one of what behind has put into a configuration.
func pretence(err error) bool {
	if c := cause(err); strings.HasPrefix(string(c), "model_") || c == engine.CauseDownload {
		return true
	}
	return ofKey(err, pretendedKey)
}

// ofKey reports whether an error is of a key of these.
func ofKey(err error, keys *lazyregexp.Regexp) bool {
	wrong, ok := errors.AsType[*provisioner.ConfigError](err)
	return ok && slices.ContainsFunc(wrong.Problems, func(p provisioner.Problem) bool { return keys.MatchString(p.Key) })
}

var (
	pretendedKey  = lazyregexp.New(`(^|\.)(model|provisioning|gpu|devices)\b`)
	executableKey = lazyregexp.New(`(^|\.)provisioning\b`)
)

// secretsOf are what is wrong with the secrets of a configuration.
func secretsOf(cfg provisioner.ProvisionConfig) (all []error) {
	try := func(key string, ref settings.SecretRef) {
		var err error
		if path := ref.FromFile; path != "" {
			if !filepath.IsAbs(path) {
				path = filepath.Join(cfg.Dir, path)
			}
			_, err = secret.KeysFromFile(path)
		} else {
			_, err = secret.FromEnv(ref.FromEnv)
		}
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", key, err))
		}
	}
	if cfg.APIKey != nil {
		try("api_key", *cfg.APIKey)
	}
	for name, value := range cfg.Env {
		if value.Secret != nil {
			try("env."+name, *value.Secret)
		}
	}
	return all
}

// runs reports whether the replica runs.
func runs(cfg provisioner.ProvisionConfig, opts []provisioner.Option) bool {
	all, _ := provisioner.Statuses(cfg.StateDir, opts...) // what cannot be read of others does not matter
	return slices.ContainsFunc(all, func(s provisioner.Status) bool { return s.ID().String() == cfg.Name() && s.PID != 0 })
}

// DiagnoseReplica looks at whether a launch of cfg can start here: a check for each of its [Problems], or one of what would run,
// with what is to be got first and the notes of the plan.
func DiagnoseReplica(ctx context.Context, cfg provisioner.ProvisionConfig, opts ...provisioner.Option) []Check {
	d := doctor{opts: opts}
	name := "plan " + cfg.Name()
	plan, problems := foresee(ctx, cfg, opts)
	for _, err := range problems {
		text, fix := strings.TrimPrefix(err.Error(), cfg.Name()+": "), adviceOf(err)
		d.problem(name, strings.TrimSuffix(strings.TrimPrefix(text, "cannot start: "), "; "+fix), fix)
	}
	if len(problems) > 0 {
		return d.checks
	}
	what := plan.Engine
	for _, part := range []string{plan.Version, plan.Model, plan.URL} {
		if part != "" {
			what += ", " + part
		}
	}
	d.ok(name, "%s", what)
	for _, need := range plan.Memory {
		if need.Fits() {
			d.ok(name, "%s", need)
		} else {
			d.warning(name, need.String()+", which is not enough", `use a smaller model or context, free memory, or see "fit"`)
		}
	}
	for _, first := range plan.Pending {
		d.ok(name, "first: %s", first)
	}
	for _, note := range plan.Notes {
		d.warning(name, note, "")
	}
	return d.checks
}

// cause is that of an error; "" where it tells none.
func cause(err error) engine.Cause {
	if f, ok := errors.AsType[*provisioner.Failure](err); ok {
		return f.Cause
	}
	return ""
}

// adviceOf is what to do about an error, where it says so apart.
func adviceOf(err error) string {
	if gpu, ok := errors.AsType[*provisioner.GPUError](err); ok {
		return gpu.Advice
	}
	if f, ok := errors.AsType[*provisioner.Failure](err); ok {
		return f.Advice
	}
	return ""
}
