package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/footprint"
	"github.com/llama-orch/engine-provisioner/internal/hooks"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/settings"
)

// record is what tests ask of a launch's record.
type record struct {
	Desired  string            `json:"desired"`
	State    provisioner.State `json:"state"`
	LaunchID string            `json:"launch_id"`
	Model    string            `json:"model"`
	Host     string            `json:"host"`
	Port     int               `json:"port"`
	Grace    settings.Duration `json:"grace"`
	Drain    settings.Drain    `json:"drain"`
	Logs     settings.Logs     `json:"logs"`
	Handoff  settings.Handoff  `json:"handoff"`
	Process  proc.ID           `json:"process"`
	Cgroup   string            `json:"cgroup"`
	TempDir  string            `json:"temp_dir"`
	Log      string            `json:"log"`
	Launch   struct {
		ModelPath string              `json:"model_path"`
		Flags     []string            `json:"flags"`
		Spec      engine.LaunchSpec   `json:"spec"`
		GPU       engine.GPUPolicy    `json:"gpu"`
		Ready     settings.Ready      `json:"ready"`
		Footprint footprint.Footprint `json:"footprint"`
	} `json:"launch"`
}

func readRecord(f state.Files) (r record, err error) {
	data, err := os.ReadFile(f.Record())
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

func recordOf(t testing.TB, p *provisioner.EngineProvisioner) record {
	t.Helper()
	r, err := readRecord(filesOf(p))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rewrite changes a record as another version or program would.
func rewrite(t testing.TB, f state.Files, change func(rec, launch map[string]any)) {
	t.Helper()
	var rec map[string]any
	data, err := os.ReadFile(f.Record())
	if err == nil {
		err = json.Unmarshal(data, &rec)
	}
	if err != nil {
		t.Fatal(err)
	}
	change(rec, rec["launch"].(map[string]any))
	if err := f.ChangeRecord(func() (any, state.Keeping) { return rec, state.Lasts }); err != nil {
		t.Fatal(err)
	}
}

// filesOf are the files of a launch that has run.
func filesOf(p *provisioner.EngineProvisioner) state.Files {
	dir := filepath.Dir(filepath.Dir(p.Status().Log))
	return state.In(filepath.Dir(dir), filepath.Base(dir))
}

// filesAt are the files of a replica.
func filesAt(cfg provisioner.ProvisionConfig) state.Files {
	return state.In(cfg.StateDir, state.Stem(cfg.PoolID, cfg.ReplicaID))
}

// reaped is what is left to do for an engine that is this process's child, and that no launch of this process looks after.
func reaped(pid int) {
	if child, err := os.FindProcess(pid); err == nil {
		_, _ = child.Wait()
	}
}

// withHooks puts something of a test's in the place of the machine. Only by reflection can a test of another package
// name the options of a launch.
func withHooks(set func(*hooks.Hooks)) provisioner.Option {
	return reflect.MakeFunc(reflect.TypeFor[provisioner.Option](), func(args []reflect.Value) []reflect.Value {
		set(args[0].Elem().FieldByName("Hooks").Addr().Interface().(*hooks.Hooks))
		return nil
	}).Interface().(provisioner.Option)
}

// opened is a fleet with these options for its launches.
func opened(ctx context.Context, cfgs []provisioner.ProvisionConfig, opts ...provisioner.Option) (*Fleet, error) {
	return Open(ctx, Options{Launch: opts}, cfgs...)
}

// supervised is a fleet that is stopped when the test ends, and then is proven to have left nothing.
func supervised(t *testing.T, cfgs []provisioner.ProvisionConfig, opts ...provisioner.Option) (*Fleet, *journal) {
	t.Helper()
	return supervisedWith(t, cfgs, Options{Launch: opts})
}

func supervisedWith(t *testing.T, cfgs []provisioner.ProvisionConfig, o Options) (*Fleet, *journal) {
	t.Helper()
	j := &journal{}
	o.OnEvent = j.add
	o.Launch = append([]provisioner.Option{provisioner.WithCacheDir(t.TempDir())}, o.Launch...)
	s, err := Open(bounded(t), o, cfgs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil && !errors.Is(err, provisioner.ErrKilled) && !errors.Is(err, provisioner.ErrReleased) {
			t.Errorf("cannot stop: %v", err)
		}
		for _, r := range s.replicas {
			if p := r.launch; p != nil && p.Status().Log != "" && !errors.Is(p.Err(), provisioner.ErrReleased) {
				nothingLeft(t, p)
			}
		}
	})
	return s, j
}
