package fleet

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// encoded reads back what a result is as JSON.
func encoded(t *testing.T, v any) (text string, fields map[string]any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data), fields
}

// What a program passes on as JSON says why, what to do, and the engine's last words.
func TestFailuresAreEncoded(t *testing.T) {
	t.Parallel()
	good := briskly(fakeConfig(t, enginetest.Behavior{}))
	bad := good
	bad.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{
		LoadTime: time.Hour, DieLoading: &enginetest.Death{Code: 1, Stderr: "error loading model: invalid magic characters\n"},
	})}
	s, _ := superviseReady(t, good)
	if status := s.Status()[0]; status.Failure != nil {
		t.Errorf("a ready one has failed: %+v", status.Failure)
	}
	results, err := s.Apply(bounded(t), []provisioner.ProvisionConfig{bad})
	if err != nil {
		t.Fatal(err)
	}
	text, fields := encoded(t, results[0])
	failure, _ := fields["failure"].(map[string]any)
	if fields["result"] != "failed" || !strings.Contains(text, `"error":"cannot reload`) || failure["cause"] != string(engine.CauseModelCorrupt) ||
		failure["advice"] == "" || failure["log_tail"] == nil || failure["log_path"] == "" {
		t.Errorf("a reload: %s", text)
	}

	if err := s.Shutdown(bounded(t)); err != nil { // the old settings are back
		t.Fatal(err)
	}
	p, _ := newLaunch(t, bad)
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if text, fields = encoded(t, p.Status()); fields["failure"] == nil || !strings.Contains(text, `"cause":"model_corrupt"`) {
		t.Errorf("a status: %s", text)
	}

	text, _ = encoded(t, provisioner.Recovered{Pool: "a", Replica: "r0", Result: report.RecoveredUnknown, Took: 1500 * time.Microsecond, Err: errors.New("no rights")})
	if text != `{"pool":"a","replica":"r0","result":"unknown","took":0.0015,"error":"no rights"}` {
		t.Errorf("a recovery: %s", text)
	}
}
