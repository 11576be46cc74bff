package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/node"
)

// asked is what an engine was asked to describe.
type asked struct {
	Request engine.Request
	Host    engine.Host
}

// observed is the subject's engine, with what it was asked last.
type observed struct {
	provisioner.Engine
	mu   sync.Mutex
	last asked
	spec engine.LaunchSpec
}

// Launch notes what is asked on a host that is known.
func (o *observed) Launch(r engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	spec, err := o.Engine.Launch(r, host)
	if err == nil && host.Binary.Path != "" {
		o.mu.Lock()
		o.last, o.spec = asked{r, host}, spec
		o.mu.Unlock()
	}
	return spec, err
}

func (o *observed) seen() (asked, engine.LaunchSpec) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last, o.spec
}

// description plans a launch of the subject, and looks at how its engine describes that and others.
func description(t *testing.T, s Subject) {
	cfg := s.Config(t, Quick)
	flags := slices.Clone(cfg.Flags) // before anybody can have changed them
	spy := &observed{Engine: s.Engine}
	options := append([]provisioner.Option{provisioner.WithCacheDir(t.TempDir())}, s.Options...)
	if _, err := node.Plan(t.Context(), cfg, append(options, provisioner.WithEngine(spy))...); err != nil {
		t.Fatal(err)
	}
	a, _ := spy.seen()
	a.Request.Flags = flags
	if problems := pure(s.Engine, a); len(problems) > 0 {
		t.Fatal(strings.Join(problems, "\n")) // the others would find the same
	}
	for _, problem := range slices.Concat(concurrent(s.Engine, a), indifferent(t, s.Engine, a), aloof(t, a), refusals(s.Engine, a, s.Wrong)) {
		t.Error(problem)
	}
}

// pure finds descriptions that differ although the request does not, and requests that change.
func pure(e provisioner.Engine, a asked) []string {
	before, first := text(a), describe(e, a)
	again := describe(e, a)
	var problems []string
	if again != first {
		problems = append(problems, "Launch describes the same request in two ways:\n"+difference(first, again))
	}
	if after := text(a); after != before {
		problems = append(problems, "Launch changes its request or host:\n"+difference(before, after))
	}
	return problems
}

// concurrent asks from many goroutines, so that the race detector sees what they share.
func concurrent(e provisioner.Engine, a asked) []string {
	const goroutines, calls = 16, 20
	want := describe(e, a)
	others := make([]string, goroutines)
	var all sync.WaitGroup
	for i := range others {
		all.Go(func() {
			for range calls {
				if got := describe(e, a); got != want {
					others[i] = got
				}
			}
		})
	}
	all.Wait()
	for _, got := range others {
		if got != "" {
			return []string{"Launch describes a request otherwise when it is called from several goroutines:\n" + difference(want, got)}
		}
	}
	return nil
}

// indifferent finds descriptions that depend on the files that the host names: others look at those.
func indifferent(t *testing.T, e provisioner.Engine, a asked) []string {
	t.Helper()
	dir := t.TempDir()
	a.Host.ModelPath, a.Host.Binary.Path = filepath.Join(dir, "model"), filepath.Join(dir, "program")
	absent := describe(e, a)
	for _, path := range []string{a.Host.ModelPath, a.Host.Binary.Path} {
		if err := os.WriteFile(path, []byte("a file"), 0o700); err != nil { //nolint:gosec // a program can be run
			t.Fatal(err)
		}
	}
	if there := describe(e, a); there != absent {
		return []string{"Launch looks at files: without the model and the executable it describes another launch:\n" + difference(there, absent)}
	}
	return nil
}

// refusals asks for what is wrong, and looks at how that is told.
func refusals(e provisioner.Engine, right asked, wrong []func(*engine.Request)) []string {
	ask := func(change func(*engine.Request)) error {
		r := right.Request
		r.Flags, r.Env = slices.Clone(r.Flags), maps.Clone(r.Env)
		change(&r)
		_, err := e.Launch(r, right.Host)
		return err
	}
	var problems []string
	tell := func(err error) {
		var config *engine.ConfigError
		switch {
		case err == nil:
		case !errors.As(err, &config):
			problems = append(problems, fmt.Sprintf("Launch fails with %q, a %T; what is wrong with a request comes back as an *engine.ConfigError", err, err))
		case len(config.Problems) == 0:
			problems = append(problems, "Launch fails with an *engine.ConfigError that tells no problem")
		default:
			for _, p := range config.Problems {
				if p.Key == "" || p.Message == "" {
					problems = append(problems, fmt.Sprintf("Launch tells a problem without its key or its message: %q, %q", p.Key, p.Message))
				}
			}
		}
	}
	for _, change := range []func(*engine.Request){ // which nobody need refuse
		func(r *engine.Request) { r.Flags = []string{"--a-flag-that-no-engine-has"} },
		func(r *engine.Request) { r.Flags = []string{"", "a value"} },
		func(r *engine.Request) { r.HasKey = true },
		func(r *engine.Request) { r.GPU = engine.GPURequired },
		func(r *engine.Request) { *r = engine.Request{} },
	} {
		tell(ask(change))
	}
	for i, change := range wrong {
		err := ask(change)
		if err == nil {
			problems = append(problems, fmt.Sprintf("Launch takes the request that Wrong[%d] makes", i))
		}
		tell(err)
	}
	return problems
}

// elsewhere is the variable that makes a process describe what stands in a file, with nothing around it.
const elsewhere = "ENGINE_PROVISIONER_CONFORMANCE_ASKED"

// aloof finds descriptions that depend on the environment or on the working directory, by a process that has neither.
func aloof(t *testing.T, a asked) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "asked.json")
	data, err := json.Marshal(a)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	test := strings.TrimSuffix(t.Name(), "/"+descriptionPart)
	for name := range strings.SplitSeq(test, "/") {
		names = append(names, "^"+regexp.QuoteMeta(name)+"$")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run="+strings.Join(names, "/"), "-test.count=1")
	cmd.Env = append(os.Environ(), elsewhere+"="+file)
	out, err := cmd.CombinedOutput()
	problem, read := os.ReadFile(file + ".problem")
	switch {
	case read != nil:
		t.Fatalf("cannot ask the engine in a process of its own: %v\n%s", err, out)
	case len(problem) > 0:
		return []string{string(problem)}
	}
	return nil
}

// describeElsewhere is the other process's part of aloof.
func describeElsewhere(t *testing.T, e provisioner.Engine, file string) {
	t.Helper()
	var a asked
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err != nil {
		t.Fatal(err)
	}
	around := describe(e, a)
	empty, err := os.MkdirTemp("", "") // t.TempDir could not be removed
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(empty) }()
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	env := os.Environ()
	os.Clearenv()
	err = os.Chdir(empty) //nolint:usetesting // a parallel test may not, but this process does nothing else
	alone := describe(e, a)
	err = errors.Join(err, os.Chdir(home)) //nolint:usetesting // as above
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		err = errors.Join(err, os.Setenv(name, value)) //nolint:usetesting // as above
	}
	problem := ""
	if alone != around {
		problem = "Launch looks at the environment or the working directory; without them it describes another launch:\n" + difference(around, alone)
	}
	if err = errors.Join(err, os.WriteFile(file+".problem", []byte(problem), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.SkipNow() // the rest is done by the process that has started this one
}

// describe is all that an engine says of a launch, as text.
func describe(e provisioner.Engine, a asked) string {
	spec, err := e.Launch(a.Request, a.Host)
	told := ""
	if err != nil {
		told = err.Error()
	}
	return text(struct {
		Spec           engine.LaunchSpec
		Flags          []engine.Flag
		Env            map[string]string
		GPUs           int
		Notes          []engine.Problem
		SpecialModel   bool
		GGUF           *engine.GGUFRun
		Error, Program string
	}{spec, spec.Flags, spec.Env, spec.GPUs, spec.Notes, spec.SpecialModel, spec.GGUF, told, fmt.Sprint(e.Program(a.Request).Command, e.Program(a.Request).Image)})
}

func text(v any) string {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// difference is the first line in which two texts differ.
func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("\t%s\n\t%s", strings.TrimSpace(x[i]), strings.TrimSpace(y[i]))
		}
	}
	return fmt.Sprintf("\t%d lines and %d", len(x), len(y))
}
