package provisioner

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/test/jsonnames"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// The records below testdata/records were written by real runs, each by a version that people may still have engines of.
// They are never rewritten: a change of the code that no longer understands one would, after an update, lose what is
// known of running engines.
var recordedSchemas = []string{"schema1.json", "schema2.json"}

// TestRecordedSchemas holds what is read of an old record against what the program that wrote it knew.
func TestRecordedSchemas(t *testing.T) {
	t.Parallel()
	for _, name := range recordedSchemas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := state.In(t.TempDir(), "chat-r0")
			if err := files.Create(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files.Record(), mustRead(t, "testdata/records/"+name), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := readRecord(files)
			if err != nil {
				t.Fatal(err)
			}
			if r.Schema != state.RecordSchema || r.Engine != "vllm" || r.Version != "0.32.0+cpu" || r.Port != 18231 || r.Process.PID != 26172 ||
				r.Process.StartTicks != 2366662 || r.Process.PidfdIno != 2684530 || r.Grace != settings.Duration(45*time.Second) ||
				r.LoadGrace != settings.Duration(2*time.Second) || *r.Drain.Timeout != settings.Duration(30*time.Second) || r.Logs.MaxSize != 64<<20 ||
				r.Launch.Ready.RequestTimeout != settings.Duration(5*time.Second) || r.Launch.GPU != engine.GPUNone || len(r.Launch.Args) != 13 {
				t.Errorf("%+v", r)
			}
			spec := r.Launch.Spec.whole()
			requests := []string{"vllm:num_requests_running", "vllm:num_requests_waiting"}
			if len(spec.Causes) != 10 || spec.Causes[0].Cause != engine.CauseLibMissing || !spec.Causes[0].Pattern.MatchString("ImportError: x") ||
				spec.NoGPU == nil || !spec.NoGPU.MatchString("Failed to infer device type") || len(spec.Advice) != 2 {
				t.Errorf("causes %v\nno GPU %v\nadvice %v", spec.Causes, spec.NoGPU, spec.Advice)
			}
			spec.Causes, spec.NoGPU, spec.Advice = nil, nil, nil
			want := engine.LaunchSpec{
				KeyEnv: "VLLM_API_KEY", Health: "/health", Version: engine.Field{Path: "/version", Key: "version"}, Model: engine.Field{Path: "/v1/models", Key: "data.0.root"},
				Metrics: &engine.MetricsContract{Path: "/metrics", Required: requests}, Gauges: &engine.Gauges{Path: "/metrics", Names: requests}, DrainsItself: true,
				Answer: &engine.AnswerRequest{Path: "/v1/completions", Body: `{"max_tokens":1,"model":"tiny","prompt":"Hi"}`},
				Grace:  45 * time.Second, LoadGrace: 2 * time.Second,
			}
			if !reflect.DeepEqual(spec, want) {
				t.Errorf("got  %+v\nwant %+v", spec, want)
			}
		})
	}
}

// TestAdoptRecordedSchemas puts a running engine in the place of the one that an old record is of. It is adopted, drained
// by the old record's gauges, and stopped.
func TestAdoptRecordedSchemas(t *testing.T) {
	t.Parallel()
	for _, name := range recordedSchemas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := vllmFake(t, enginetest.Behavior{})
			first := abandoned(t, cfg)
			var now, old map[string]any
			for data, into := range map[string]*map[string]any{
				string(mustRead(t, first.run.files.Record())): &now, string(mustRead(t, "testdata/records/"+name)): &old,
			} {
				if err := json.Unmarshal([]byte(data), into); err != nil {
					t.Fatal(err)
				}
			}
			launch, launched := old["launch"].(map[string]any), now["launch"].(map[string]any)
			for _, key := range []string{"args", "model_path", "digest"} {
				launch[key] = launched[key]
			}
			now["schema"], now["launch"] = old["schema"], launch
			data, err := json.Marshal(now)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(first.run.files.Record(), data, 0o600); err != nil {
				t.Fatal(err)
			}

			adopted, found, err := Recover(bounded(t), cfg.StateDir, WithCacheDir(t.TempDir()))
			if err != nil || len(adopted) != 1 {
				t.Fatalf("%v, %+v, %v", adopted, found, err)
			}
			p := adopted[0]
			if s := p.Status(); s.State != StateReady || s.PID != first.Status().PID {
				t.Errorf("%+v", s)
			}
			if spec := p.run.rec.Launch.Spec; spec.KeyEnv != "VLLM_API_KEY" || spec.Gauges == nil || !spec.DrainsItself {
				t.Errorf("%+v", spec)
			}
			if err := p.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			_, _ = first.run.host().Leader.Child().Wait()
			nothingLeft(t, p)
		})
	}
}

// TestKeptTypesHaveNames: what is kept on disk has its names from tags, so that no renamed field loses what an earlier
// version has written.
func TestKeptTypesHaveNames(t *testing.T) {
	t.Parallel()
	seen := jsonnames.Check(t,
		record{}, Event{}, Handoff{}, // of a replica and a state directory
		engine.LaunchSpec{},               // which a record writes by a method of its own
		engine.Binary{}, cache.Manifest{}, // of the cache
	)
	for _, typ := range []reflect.Type{reflect.TypeFor[engine.LaunchSpec](), reflect.TypeFor[engine.CausePattern](), reflect.TypeFor[report.Progress](), reflect.TypeFor[report.MemoryNeed]()} {
		if !seen[typ] {
			t.Errorf("%s was not looked at", typ)
		}
	}
}
