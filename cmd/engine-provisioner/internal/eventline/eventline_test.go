package eventline

import (
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/report"
)

func TestText(t *testing.T) {
	t.Parallel()
	code, at := 7, time.Date(2026, 5, 4, 3, 2, 1, 5e6, time.Local)
	event := func(e provisioner.Event) provisioner.Event {
		e.Time = at
		if e.Message != "-" {
			e.Pool, e.Replica = "chat", "r0"
		}
		return e
	}
	const begin = "2026-05-04 03:02:01.005  "
	for want, e := range map[string]provisioner.Event{
		begin + "chat/r0  preparing": event(provisioner.Event{
			Kind: provisioner.EventState, From: provisioner.StateNew, State: provisioner.StatePreparing, Took: 0.005, Attempt: 1,
		}),
		begin + "chat/r0  ready  (pid 12, attempt 2, starting for 1.5s)  http://127.0.0.1:1": event(provisioner.Event{
			Kind: provisioner.EventState, From: provisioner.StateStarting, State: provisioner.StateReady, PID: 12, Attempt: 2,
			Took: 1.5, Message: "http://127.0.0.1:1",
		}),
		begin + "chat/r0  failed  (ready for 1h0m0s, exit code 7, cause oom_gpu)  it  died": event(provisioner.Event{
			Kind: provisioner.EventState, From: provisioner.StateReady, State: provisioner.StateFailed, ExitCode: &code,
			Cause: engine.CauseOOMGPU, Took: 3600, Message: "it \x1b[31m died\nand more",
		}),
		begin + "chat/r0  restart  (next try 2026-05-04 03:02:03)": event(provisioner.Event{
			Kind: provisioner.EventRestart, State: provisioner.StateFailed,
			Restarts: &report.Restarts{Phase: report.PhaseBackoff, RetryAt: at.Add(2 * time.Second)},
		}),
		begin + "chat/r0  given up  (cause model_missing)": event(provisioner.Event{
			Kind: provisioner.EventRestart, State: provisioner.StateFailed, Cause: engine.CauseModelMissing,
			Message: "told by the failure before it", Restarts: &report.Restarts{Phase: report.PhaseFailed},
		}),
		begin + "chat/r0  recovery  (pid 12, took 3ms)  adopted": event(provisioner.Event{
			Kind: provisioner.EventRecovery, PID: 12, Took: 0.003, Message: "adopted",
		}),
		"4 events are missing here\n" + begin + "-  note  -": event(provisioner.Event{
			Kind: provisioner.EventNote, Message: "-", Missed: 4,
		}),
	} {
		if got := Text(e); got != want {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
	if got := Text(provisioner.Event{Pool: "a\x1b]0;evil\a", Message: "\x9b31m"}); strings.ContainsAny(got, "\x1b\a\u009b") {
		t.Errorf("control characters in %q", got)
	}
}
