package table

import (
	"fmt"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/usage"
)

var now = time.Date(2026, 12, 1, 4, 0, 0, 0, time.UTC)

func ready() provisioner.Status {
	return provisioner.Status{
		Pool: "chat", Replica: "r0", State: provisioner.StateReady, Engine: "llamacpp", Version: "b11669", Model: "/models/chat.gguf", PID: 4711,
		URL: "http://127.0.0.1:8081", StartedAt: now.Add(-90 * time.Minute), Manager: 42, Restarts: &report.Restarts{Total: 3, Cause: engine.CauseOOMHost},
		Usage: &usage.Usage{
			Processes: 2, CPU: new(1.5), Memory: 1_200_000_000, GPUMemory: new(int64(5_000_000_000)), Running: new(2), Waiting: new(1), TokenRate: new(34.56),
		},
	}
}

func failed() provisioner.Status {
	return provisioner.Status{
		Pool: "chat", Replica: "r1", State: provisioner.StateFailed, Engine: "vllm", Exit: "code 1", Manager: 42,
		Restarts: &report.Restarts{
			Phase: report.PhaseBackoff, RetryAt: now.Add(5 * time.Second), Last: "chat/r1: the engine exited with code 1; use a smaller model",
			Cause: engine.CauseOOMGPU, Advice: "use a smaller model",
		},
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	loads := provisioner.Status{
		Pool: "chat", Replica: "r2", State: provisioner.StateStarting, Engine: "llamacpp", PID: 7, StartedAt: now, Manager: 42,
		Progress: &report.Progress{Step: report.StepLoad, What: "chat.gguf", Done: 370_000, Total: 1_000_000, Remaining: 8},
	}
	all := []provisioner.Status{ready(), failed(), loads}
	const want = `POOL  REPLICA  STATE                   MODEL      ENGINE           ADDRESS                   UP   CPU      RAM     VRAM  RUN/WAIT  TOK/S  RESTARTS  LAST CAUSE
chat  r0       ready                   chat.gguf  llamacpp b11669  http://127.0.0.1:8081  1h30m  150%  1.1 GiB  4.7 GiB       2/1   34.6         3  oom_host
chat  r1       failed, next try in 5s  -          vllm             -                          -     -        -        -         -      -         0  oom_gpu
  the engine exited with code 1
  -> use a smaller model
chat  r2       loading 37%             -          llamacpp         -                         0s     -        -        -         -      -         0  -
  loading chat.gguf: 370 kB of 1.0 MB, 8s left
the manager (pid 42) looks after them`
	if got := strings.Join(Table{Now: now}.Lines(all), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Whatever the width is, no line is wider, and the first columns are there; colours are the states' alone.
func TestNarrow(t *testing.T) {
	t.Parallel()
	all := []provisioner.Status{ready(), failed()}
	whole := Table{Now: now}.Rows(all)
	for width := 1; width <= 160; width++ {
		plain := Table{Width: width, Now: now}.Lines(all)
		for _, line := range plain {
			if Columns(line) > width {
				t.Fatalf("%d columns in %d: %q", Columns(line), width, line)
			}
		}
		if width >= 39 && !strings.HasPrefix(plain[0], "POOL  REPLICA  STATE") {
			t.Fatalf("%d columns: %q", width, plain[0])
		}
		if title := strings.TrimRight(plain[0], "…"); !strings.HasPrefix(whole[0], strings.TrimSpace(title)) {
			t.Fatalf("%d columns: %q is no beginning of %q", width, plain[0], whole[0])
		}
		coloured := strings.Join(Table{Width: width, Colour: true, Now: now}.Lines(all), "\n")
		if bare := strings.NewReplacer("\x1b[32m", "", "\x1b[31m", "", "\x1b[0m", "").Replace(coloured); bare != strings.Join(plain, "\n") {
			t.Fatalf("%d columns: colours change the text:\n%s\n%s", width, bare, strings.Join(plain, "\n"))
		}
	}
}

// No text of an engine, a record or a file does anything to a terminal.
func TestForeignText(t *testing.T) {
	t.Parallel()
	const evil = "a\x1b]0;x\a\x1b[2J\r\n\u202eb"
	s := ready()
	s.Pool, s.Replica, s.Engine, s.Version, s.Model, s.URL, s.Exit = evil, evil, evil, evil, evil, evil, evil
	s.Restarts.Cause, s.Outdated, s.Differs = evil, true, []report.Difference{{Key: evil}}
	s.Progress = &report.Progress{Step: report.StepBuild, What: evil}
	other := failed()
	other.Pool, other.Manager, other.Exit, other.Restarts.Last, other.Restarts.Advice = evil, 0, evil, evil, evil
	lone := ready()
	lone.Pool, lone.Manager = evil, 0
	for _, line := range (Table{Now: now, Width: 300}).Lines([]provisioner.Status{s, other, lone}) {
		if strings.ContainsAny(line, "\x1b\a\r\n\u202e") {
			t.Errorf("%q", line)
		}
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*provisioner.Status){
		"ready":           func(*provisioner.Status) {},
		"asleep":          func(s *provisioner.Status) { s.Usage.Asleep = true },
		"drained":         func(s *provisioner.Status) { s.Drained = true },
		"ready, outdated": func(s *provisioner.Status) { s.Outdated = true },
		"preparing 7%": func(s *provisioner.Status) {
			s.State, s.Progress = provisioner.StatePreparing, &report.Progress{Done: 7, Total: 100}
		},
		"loading": func(s *provisioner.Status) { // in memory, and not ready
			s.State, s.Progress = provisioner.StateStarting, &report.Progress{Done: 7, Total: 7}
		},
		"failed, given up": func(s *provisioner.Status) {
			s.State, s.PID, s.Restarts.Phase = provisioner.StateFailed, 0, report.PhaseFailed
		},
		"failed, breaker open, next try in 1m0s": func(s *provisioner.Status) {
			s.State, s.PID, s.Restarts.Phase, s.Restarts.RetryAt = provisioner.StateFailed, 0, report.PhaseOpen, now.Add(time.Minute)
		},
		"failed, stopped": func(s *provisioner.Status) {
			s.State, s.PID, s.Restarts.Phase = provisioner.StateFailed, 0, report.PhaseStopped
		},
	} {
		s := ready()
		if change(&s); State(s, now) != want {
			t.Errorf("%q, want %q", State(s, now), want)
		}
	}
}

func TestCare(t *testing.T) {
	t.Parallel()
	alone, over := ready(), failed()
	alone.Manager, over.Manager = 0, 0
	for _, test := range []struct {
		all  []provisioner.Status
		want string
	}{
		{nil, ""},
		{[]provisioner.Status{over}, ""},
		{[]provisioner.Status{ready()}, "the manager (pid 42) looks after them"},
		{[]provisioner.Status{alone, over}, "nobody looks after them: nothing is started again when it ends"},
		{[]provisioner.Status{failed(), alone}, "the manager (pid 42) looks after them, but nobody after chat/r0: nothing is started again when it ends"},
	} {
		if got := Care(test.all); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", time.Minute: "1m00s", time.Hour: "1h00m", 25*time.Hour + 59*time.Minute: "1d01h",
	} {
		s := ready()
		s.StartedAt = now.Add(-d)
		if got := age(s, now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func ExampleTable() {
	for _, line := range (Table{Width: 50, Now: now}).Lines([]provisioner.Status{ready()}) {
		fmt.Println(line)
	}
	// Output:
	// POOL  REPLICA  STATE  MODEL      ENGINE
	// chat  r0       ready  chat.gguf  llamacpp b11669
	// the manager (pid 42) looks after them
}
