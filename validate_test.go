package provisioner

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/settings"
)

// pickyEngine refuses every flag that says so.
type pickyEngine struct{ err error }

func (pickyEngine) Name() string                          { return "picky" }
func (pickyEngine) Program(engine.Request) engine.Program { return engine.Program{Command: "picky"} }

func (e pickyEngine) Launch(req engine.Request, _ engine.Host) (engine.LaunchSpec, error) {
	if e.err != nil {
		return engine.LaunchSpec{}, e.err
	}
	var problems []engine.Problem
	for i, flag := range req.Flags {
		if strings.Contains(flag, "bad") {
			problems = append(problems, engine.Problem{Key: fmt.Sprintf("flags[%d]", i), Message: fmt.Sprintf("unknown flag %q", flag)})
		}
	}
	if len(problems) > 0 {
		return engine.LaunchSpec{}, &engine.ConfigError{Problems: problems}
	}
	return engine.LaunchSpec{}, nil
}

func TestEngineProblems(t *testing.T) {
	t.Parallel()
	const file = `pools:
  - id: one
    engine: picky
    flags: [--good, --bad]
    host: 10.0.0.1
    port: 8081
    model: {id: /m}
  - id: two
    engine: picky
    flags:
      - --worse-and-bad
    port: 8082
    model: {id: /m}
  - id: three
    engine: picky
    flags: [--bad]
    port: none
    model: {id: /m}
`
	_, err := ParseConfig([]byte(file), "pools.yaml", WithEngine(pickyEngine{}))
	const want = `5 problems in the configuration:
pools.yaml:4:21: pools[0].flags[1]: unknown flag "--bad"
pools.yaml:5:11: pools[0].host: other machines can reach 10.0.0.1; write "expose: true" and an api_key to allow that, or use 127.0.0.1
pools.yaml:11:9: pools[1].flags[0]: unknown flag "--worse-and-bad"
pools.yaml:16:13: pools[2].flags[0]: unknown flag "--bad"
pools.yaml:17:11: pools[2].port: must be a whole number in plain digits, is the text "none"`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}

	replica := ProvisionConfig{
		PoolID: "a", ReplicaID: "r0", Engine: "picky", Port: 1, Model: settings.Model{ID: "/m"}, Flags: []string{"--bad"},
		origin: &config.Origin{File: "f.yaml", Prefix: "pools[3]"},
	}
	if err := replica.Validate(WithEngine(pickyEngine{})); err == nil ||
		err.Error() != `f.yaml: pools[3].flags[0]: unknown flag "--bad"` {
		t.Errorf("got %v", err)
	}
	made := &Config{Pools: []Pool{{ID: "a", ProvisionConfig: ProvisionConfig{
		Engine: "picky", Port: 1, Model: settings.Model{ID: "/m"}, Flags: []string{"--bad"},
	}}}}
	if err := made.Validate(WithEngine(pickyEngine{})); err == nil ||
		err.Error() != `pools[0].flags[0]: unknown flag "--bad"` {
		t.Errorf("got %v", err)
	}
	_, err = ParseConfig([]byte(file), "", WithEngine(pickyEngine{errors.New("out of order")}))
	if err == nil || !strings.Contains(err.Error(), `pools[1].engine: "picky" cannot be launched: out of order`) {
		t.Errorf("got %v", err)
	}
	_, err = ParseConfig([]byte(file), "")
	if err == nil || !strings.Contains(err.Error(), `pools[0].engine: unknown engine "picky"; the engines here are llamacpp`) {
		t.Errorf("got %v", err)
	}
}

func TestValidateReplica(t *testing.T) {
	t.Parallel()
	good := ProvisionConfig{
		PoolID: "chat", ReplicaID: "r0", Engine: "llamacpp", Port: 8081, Model: settings.Model{ID: "/m.gguf"},
	}
	if err := good.Validate(); err != nil {
		t.Errorf("the good one: %v", err)
	}
	for _, test := range []struct {
		change func(*ProvisionConfig)
		want   string
	}{
		{func(c *ProvisionConfig) { *c = ProvisionConfig{} }, `5 problems in the configuration:
PoolID: is ""; use lower-case letters, digits, "-" and "_", with a letter or digit at both ends
ReplicaID: is ""; use lower-case letters, digits, "-" and "_", with a letter or digit at both ends
engine: is missing; name the engine, such as "llamacpp"
port: is missing; give the first replica's port, such as 8081
model.id: is missing; refer to the model, such as "local:/models/chat.gguf"`},
		{
			func(c *ProvisionConfig) { c.ReplicaID = "../r0" },
			`ReplicaID: is "../r0"; use lower-case letters, digits, "-" and "_", with a letter or digit at both ends, such as "r0"`,
		},
		{func(c *ProvisionConfig) { c.Port = 70000 }, "port: must be from 1 to 65535, is 70000"},
		{
			func(c *ProvisionConfig) { c.Host = "::" },
			`host: other machines can reach ::; write "expose: true" and an api_key to allow that, or use 127.0.0.1`,
		},
		{func(c *ProvisionConfig) {
			c.Host, c.Expose, c.APIKey = "::", settings.ExposeKeyed, &settings.SecretRef{FromEnv: "K"}
		}, ""},
		{
			func(c *ProvisionConfig) { c.Host, c.Expose = "::", settings.ExposeKeyed },
			`api_key: is missing, and other machines can reach ::; write {from_env: NAME} or {from_file: PATH}, or "expose: open" where a gateway before it asks for the key`,
		},
		{func(c *ProvisionConfig) { c.Host, c.Expose = "::", settings.ExposeOpen }, ""},
		{func(c *ProvisionConfig) { c.Expose = "yes" }, `expose: must be true, false or "open", is "yes"`},
		{func(c *ProvisionConfig) { c.InheritEnv = []string{"UCX_*", "MY_NAME"} }, ""},
		{
			func(c *ProvisionConfig) {
				c.InheritEnv = []string{"*", "X*", "A=B", "LLAMA_ARG_*", "HF_TOKEN", "TMPDIR", "CUDA_VISIBLE_DEVICES"}
			},
			`7 problems in the configuration:
inherit_env[0]: must be the name of a variable, or how names begin and "*", such as "NCCL_*", is "*"
inherit_env[1]: is "X*", which may be anybody's; write more of the name, up to a _ at least
inherit_env[2]: must be the name of a variable, or how names begin and "*", such as "NCCL_*", is "A=B"
inherit_env[3]: may not have "LLAMA_ARG_*", which stands for flags; write "flags" instead
inherit_env[4]: may not have "HF_TOKEN", which is a secret by its name; write "env: {HF_TOKEN: {from_env: HF_TOKEN}}"
inherit_env[5]: may not have "TMPDIR"; every launch has a folder of its own; remove it
inherit_env[6]: may not have "CUDA_VISIBLE_DEVICES"; write "devices" or "gpu" instead`,
		},
		{func(c *ProvisionConfig) { c.Host = "127.3.2.1" }, ""},
		{
			func(c *ProvisionConfig) { c.Devices = []settings.Device{"first"} },
			`devices[0]: must be a GPU's index, such as 0, its UUID, such as "GPU-…", or its PCI address, is "first"`,
		},
		{
			func(c *ProvisionConfig) { c.Stop.Settle, c.Drain.Timeout = settings.Duration(time.Minute), nil },
			`stop.settle: is 1m0s, and the drain that it is a part of ends after 30s; write a longer "drain.timeout"`,
		},
		{func(c *ProvisionConfig) { c.Stop.Grace = -1 }, "stop.grace: must not be negative; leave it out for the default"},
		{
			func(c *ProvisionConfig) { c.Ready.Timeout = settings.Duration(25 * time.Hour) },
			"ready.timeout: must be more than 0 and at most 24h, is 25h0m0s; leave the key out for the default",
		},
		{func(c *ProvisionConfig) { c.Logs.Keep = -1 }, "logs.keep: must be from 1 to 1000, is -1"},
		{
			func(c *ProvisionConfig) { c.Logs.MaxSize = 100 },
			"logs.max_size: must be from 64KiB to 1TiB, is 100B; leave the key out for the default",
		},
		{func(c *ProvisionConfig) { c.Logs = settings.Logs{MaxSize: 1 << 40} }, ""},
		{func(c *ProvisionConfig) { c.GPU = "maybe" }, `gpu: must be "required", "optional", "none" or "unmanaged", is "maybe"`},
		{
			func(c *ProvisionConfig) {
				c.Env = map[string]settings.EnvValue{"TOKEN": {Secret: &settings.SecretRef{}}}
			},
			"env.TOKEN: says nowhere to find the secret; set from_env or from_file",
		},
		{func(c *ProvisionConfig) { c.Flags = []string{"a\x00"} }, "flags[0]: holds a NUL character; remove it"},
	} {
		c := good
		test.change(&c)
		err := c.Validate()
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestCheckReplicas(t *testing.T) {
	t.Parallel()
	replica := func(pool, id string, port int) ProvisionConfig {
		return ProvisionConfig{PoolID: pool, ReplicaID: id, Port: port}
	}
	elsewhere := replica("a-b", "c", 4)
	elsewhere.StateDir = "/elsewhere"
	o := newOptions(nil)
	got := o.beside([]ProvisionConfig{
		replica("a-b", "c", 1), replica("a", "b-c", 2), replica("a", "b", 1), replica("x", "y", 3), elsewhere,
	})
	want := []Problem{
		{Key: "[1].id", Message: "replicas a-b/c and a/b-c would share the handoff file a-b-c.json; rename one"},
		{Key: "[2].port", Message: "replica a/b needs port 1, which a-b/c has; every replica needs a port of its own"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestManyProblemsAreCut(t *testing.T) {
	t.Parallel()
	file := "pools:\n  - id: a\n    engine: llamacpp\n    port: 1\n    model: {id: /m}\n    flags: [" +
		strings.Repeat("1, ", 500) + "1]\n"
	_, err := ParseConfig([]byte(file), "")
	var wrong *ConfigError
	if !errors.As(err, &wrong) || len(wrong.Problems) != 101 {
		t.Fatalf("got %v", err)
	}
	if last := wrong.Problems[100]; last.Message != "and 401 more problems" {
		t.Errorf("the last is %+v", last)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, pattern := range []string{"testdata/config/*", "testdata/badconfig/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds in %s (%v)", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data, "pools.yaml")
		var wrong *ConfigError
		switch {
		case err == nil:
			roundTrip(t, c)
			if _, err := c.Replicas(""); err != nil {
				t.Error(err)
			}
		case !errors.As(err, &wrong) || len(wrong.Problems) == 0 || c != nil:
			t.Errorf("got %v with error %T %v", c, err, err)
		default:
			if strings.Contains(err.Error(), "provisioner.") || strings.Contains(err.Error(), "%!") {
				t.Errorf("unfit for people: %v", err)
			}
		}
	})
}

// FuzzID proves that an id that passes cannot lead a file out of its folder.
func FuzzID(f *testing.F) {
	for _, id := range []string{"default", "r0", "..", "a/b", "a-", "-a", "a_b-c", "A", "", "a\x00", "a\n", strings.Repeat("a", 64)} {
		f.Add(id, "r0")
		f.Add("chat", id)
	}
	f.Fuzz(func(t *testing.T, pool, replica string) {
		c := ProvisionConfig{
			PoolID: pool, ReplicaID: replica, Engine: "llamacpp", Port: 1, Model: settings.Model{ID: "/m"},
		}
		if c.Validate() != nil {
			return
		}
		path := filepath.Join("/state", c.fileStem())
		if filepath.Dir(path) != "/state" || !filepath.IsLocal(c.fileStem()) || len(c.fileStem()) > 127 ||
			strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q and %q give %q", pool, replica, path)
		}
	})
}

func TestValidateConfigMadeInGo(t *testing.T) {
	t.Parallel()
	replica := ProvisionConfig{Engine: "llamacpp", Port: 8081, Model: settings.Model{ID: "/m.gguf"}}
	c := &Config{Pools: []Pool{{ID: "a", ProvisionConfig: replica}, {ID: "b", Replicas: -1, ProvisionConfig: replica}}}
	const want = "pools[1].replicas: must be from 1 to 256, is -1"
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	c.Pools[1].Replicas = 0
	const clash = "pools[1].port: replica b/r0 needs port 8081, which a/r0 has; every replica needs a port of its own"
	if err := c.Validate(); err == nil || err.Error() != clash {
		t.Errorf("got  %v\nwant %s", err, clash)
	}
	c.Pools[1].Port = 8082
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	roundTripGo, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseConfig(roundTripGo, ""); err != nil {
		t.Errorf("%v in %s", err, roundTripGo)
	}
	if err := new(Config).Validate(); err == nil || err.Error() != "pools: is missing; list at least one pool" {
		t.Errorf("got %v", err)
	}
}

func TestSizeString(t *testing.T) {
	t.Parallel()
	for size, want := range map[settings.Size]string{
		0: "0B", 1: "1B", 64 << 20: "64MiB", 1 << 40: "1TiB", 500e6: "500MB", 1e9: "1GB", 1 << 30: "1GiB", 1500: "1500B",
		1536 << 10: "1536KiB", -1: "-1B",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d is %q, want %q", int64(size), got, want)
		}
	}
}

func TestUnmarshalValues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		into any
		text string
		want string
	}{
		{new(settings.Duration), `"90s"`, ""},
		{new(settings.Duration), `"0s"`, ""},
		{new(settings.Duration), `90`, `is the number 90 without a unit; write "90s" for seconds`},
		{new(settings.Size), `"64MiB"`, ""},
		{new(settings.Size), `64`, `is the number 64 without a unit; write "64MiB" for mebibytes`},
		{new(settings.Size), `"64M"`, `must be text with a unit, such as "64MiB" or "1GiB", is the text "64M"`},
		{new(settings.Size), `"1B"`, `must be from 64KiB to 1TiB, is 1B; leave the key out for the default`},
		{new(settings.Device), `3`, ""},
		{new(settings.Device), `"x"`, `must be a GPU's index, such as 0, its UUID, such as "GPU-…", or its PCI address, is the text "x"`},
		{new(settings.EnvValue), `"plain"`, ""},
		{new(settings.EnvValue), `{"from_env":"A"}`, ""},
		{new(settings.EnvValue), `42`, "must be text or {from_env: NAME} or {from_file: PATH}, is a number; put it in quotes"},
	} {
		err := json.Unmarshal([]byte(test.text), test.into)
		if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
			t.Errorf("%T from %s: got %v, want %q", test.into, test.text, err, test.want)
		}
	}
}
