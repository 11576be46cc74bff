package quickstart

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/node"
)

// write makes files, with the first bytes of a GGUF file, in a new working directory.
func write(t *testing.T, names ...string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, name := range names {
		err := os.MkdirAll(filepath.Dir(name), 0o700)
		if err == nil {
			err = os.WriteFile(name, []byte("GGUF\x03\x00\x00\x00"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadModel(t *testing.T) {
	write(t, "chat.gguf", "sub/Chat_2.5-00001-of-00003.gguf", "blob-without-suffix", "qwen/model-00001-of-2.safetensors", "qwen/config.json",
		"hf:odd.gguf", "~x.gguf", "with\nnewline.gguf", "\x1b[31mred.gguf", "models/llama/x.gguf")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	const gguf, folder, unknown = engine.ModelGGUF, engine.ModelFolder, engine.ModelKind("")
	for typed, want := range map[string]struct {
		id   string
		kind engine.ModelKind
		pool string
	}{
		"chat.gguf":                        {"chat.gguf", gguf, "chat"},
		"./chat.gguf":                      {"./chat.gguf", gguf, "chat"},
		here + "/chat.gguf":                {here + "/chat.gguf", gguf, "chat"},
		"local:chat.gguf":                  {"local:chat.gguf", gguf, "chat"},
		"file://" + here + "/chat.gguf":    {"file://" + here + "/chat.gguf", gguf, "chat"},
		"sub/Chat_2.5-00001-of-00003.gguf": {"sub/Chat_2.5-00001-of-00003.gguf", gguf, "chat_2-5"},
		"blob-without-suffix":              {"blob-without-suffix", gguf, "blob-without-suffix"},
		"qwen":                             {"qwen", folder, "qwen"},
		"qwen/":                            {"qwen/", folder, "qwen"},
		"hf:odd.gguf":                      {"./hf:odd.gguf", gguf, "hf-odd"},
		"~x.gguf":                          {"./~x.gguf", gguf, "x"},
		"with\nnewline.gguf":               {"with\nnewline.gguf", gguf, "with-newline"},
		"\x1b[31mred.gguf":                 {"\x1b[31mred.gguf", gguf, "31mred"},

		"hf:org/repo":                           {"hf:org/repo", unknown, "repo"},
		"hf://org/repo":                         {"hf:org/repo", unknown, "repo"},
		"org/repo":                              {"hf:org/repo", unknown, "repo"},
		"org/repo@v1":                           {"hf:org/repo@v1", unknown, "repo"},
		"org/SmolLM2-135M-Instruct-GGUF":        {"hf:org/SmolLM2-135M-Instruct-GGUF", gguf, "smollm2-135m-instruct"},
		"org/repo:Q4_K_M":                       {"hf:org/repo:Q4_K_M", gguf, "repo-q4_k_m"},
		"org/repo-gguf@v1:q8_0":                 {"hf:org/repo-gguf@v1:q8_0", gguf, "repo-q8_0"},
		"hf:org/repo/dir/file.gguf":             {"hf:org/repo/dir/file.gguf", gguf, "file"},
		"https://example.com/a/B.gguf":          {"https://example.com/a/B.gguf", gguf, "b"},
		"https://example.com/download":          {"https://example.com/download", unknown, "download"},
		"hf.co/org/repo:Q4_K_M":                 {"hf:org/repo:Q4_K_M", gguf, "repo-q4_k_m"},
		"https://huggingface.co/org/repo":       {"hf:org/repo", unknown, "repo"},
		"https://hf.co/org/repo/tree/main":      {"hf:org/repo", unknown, "repo"},
		"https://hf.co/org/repo/tree/v1?x":      {"hf:org/repo@v1", unknown, "repo"},
		"huggingface.co/o/r/blob/main/f.gguf#x": {"hf:o/r/f.gguf", gguf, "f"},
		"https://huggingface.co/org/repo/resolve/main/q/f.gguf?download=true": {"hf:org/repo/q/f.gguf", gguf, "f"},
	} {
		m, err := readModel(typed)
		if err != nil || m.id != want.id || m.kind != want.kind || m.pool() != want.pool {
			t.Errorf("%q: %+v, pool %q, %v; want %+v", typed, m, m.pool(), err, want)
		}
	}
}

func TestReadModelErrors(t *testing.T) {
	write(t, "chat.gguf", "ggufs/a.gguf", "ggufs/b.gguf", "empty/readme", "shard.safetensors", "text.txt")
	if err := os.WriteFile("text.txt", []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]string{
		"":                            "empty",
		"a\x00b":                      "NUL",
		"chta.gguf":                   `file does not exist; did you mean "chat.gguf"?`,
		"./chta.gguf":                 `did you mean "chat.gguf"?`,
		"zzzzzzzzzzzz.gguf":           `there is "chat.gguf"`,
		"ggufs/zzzzzzz":               `there is "ggufs/a.gguf", "ggufs/b.gguf"; of the Hugging Face hub it is "hf:ggufs/zzzzzzz"`,
		"nofolder/x.gguf":             `there is no folder "nofolder"; of the Hugging Face hub it is "hf:nofolder/x.gguf"`,
		"org/repo/file.gguf":          `of the Hugging Face hub it is "hf:org/repo/file.gguf"`,
		"llama3":                      `a model of the Hugging Face hub is "owner/repo" or "owner/repo:QUANT"`,
		"llama3:8b":                   `"llama3:" is an unknown kind of reference`,
		"s3://bucket/x":               `"s3:" is an unknown kind of reference`,
		"\x1b[31mx\n.gguf":            `cannot use the model "\x1b[31mx\n.gguf": file does not exist`,
		"ggufs":                       `it is a folder; name the GGUF file in it: "ggufs/a.gguf", "ggufs/b.gguf"`,
		"empty":                       "a folder without weights",
		"shard.safetensors":           `name its folder, "."`,
		"text.txt":                    "it is no GGUF file",
		"/dev/null":                   "neither a file nor a folder",
		"chat.gguf/x":                 "not a directory",
		"file://x":                    "three slashes",
		"https://hf.co/datasets/a/b":  "no page of a model",
		"https://hf.co/a":             "no page of a model",
		"https://hf.co/a/b/tree":      "no page of a model",
		"https://example.com/%zz":     "no URL",
		strings.Repeat("x", 1_000):    "file name too long",
		"hf.co/" + "../../etc/passwd": "no page of a model",
	} {
		m, err := readModel(typed)
		if _, is := errors.AsType[*ModelError](err); !is || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %s", typed, m, err, want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\n\x00") {
			t.Errorf("%q: the error holds control characters: %q", typed, err)
		}
	}
	if _, err := readModel("nope.gguf"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is no fs.ErrNotExist", err)
	}
}

var engines = []node.Engine{
	{Name: "llamacpp", Command: "llama-server", Model: engine.ModelGGUF, Port: 8080},
	{Name: "vllm", Command: "vllm", Model: engine.ModelFolder, Port: 8000},
	{Name: "sglang", Command: "sglang", Model: engine.ModelFolder, Port: 30000},
	{Name: "custom", Model: engine.ModelAny},
}

// with are the engines of which some are in PATH.
func with(here ...string) []node.Engine {
	all := slices.Clone(engines)
	for i, e := range all {
		if slices.Contains(here, e.Name) {
			all[i].Binary = "/usr/bin/" + e.Command
		}
	}
	return all
}

func TestEngineOfModel(t *testing.T) {
	for _, test := range []struct {
		kind         engine.ModelKind
		asked        string
		here         []string
		want, failed string
	}{
		{kind: engine.ModelGGUF, want: "llamacpp"},
		{kind: engine.ModelGGUF, asked: "vllm", want: "vllm"},
		{kind: engine.ModelFolder, here: []string{"llamacpp", "vllm"}, want: "vllm"},
		{kind: engine.ModelFolder, here: []string{"llamacpp"}, failed: `which engine shall serve "m"; name one: vllm, sglang`},
		{kind: engine.ModelFolder, here: []string{"sglang", "vllm"}, failed: "name one: vllm, sglang"},
		{here: []string{"sglang"}, want: "sglang"},
		{here: []string{"llamacpp"}, failed: "name one: llamacpp, vllm, sglang"},
		{asked: "vlm", failed: `unknown engine "vlm"; did you mean "vllm"?`},
		{asked: "\x1b", failed: `unknown engine "\x1b"; there are llamacpp, vllm, sglang`},
		{asked: "custom", failed: `"custom" runs what a pools file describes`},
	} {
		h := host{engines: with(test.here...)}
		got, _, err := h.engine(Request{Model: "m", Engine: test.asked}, model{kind: test.kind})
		if test.failed == "" && (err != nil || got.Name != test.want) || test.failed != "" && (err == nil || !strings.Contains(err.Error(), test.failed)) {
			t.Errorf("%+v: %s, %v", test, got.Name, err)
		}
	}
}

func TestDraft(t *testing.T) {
	gpus := []engine.GPU{{Name: "NVIDIA\x1b[31m H200"}, {Name: "NVIDIA H200", Index: 1}, {Name: "NVIDIA H200 MIG 1g", Index: 1}}
	m := model{id: "chat.gguf", local: true, kind: engine.ModelGGUF, name: "chat.gguf"}
	for name, test := range map[string]struct {
		host  host
		req   Request
		want  string // engine, port, gpu, provisioning
		notes []string
	}{
		"no GPU": {
			host{engines: with("llamacpp"), noGPU: &provisioner.GPUError{Err: provisioner.ErrNoDriver, Advice: "x"}},
			Request{Obtain: true},
			"llamacpp 8080 none",
			[]string{"gpu: none; " + provisioner.ErrNoDriver.Error()},
		},
		"flags for a GPU": {
			host{engines: with("llamacpp"), noGPU: &provisioner.GPUError{Err: provisioner.ErrNoDriver}},
			Request{Flags: []string{"-c", "2048", "-ngl", "99"}},
			"llamacpp 8080 optional",
			[]string{"gpu: optional; " + provisioner.ErrNoDriver.Error() + "; the CPU serves what the flags want on one"},
		},
		"flags that are wrong anyway": {
			host{engines: with("llamacpp"), noGPU: &provisioner.GPUError{Err: provisioner.ErrNoDriver}},
			Request{Flags: []string{"-ngl", "99", "--port", "7"}},
			"llamacpp 8080 none",
			[]string{"gpu: none; " + provisioner.ErrNoDriver.Error()},
		},
		"a driver that fails": {
			host{engines: with("llamacpp"), noGPU: errors.New("the driver does not answer")},
			Request{},
			"llamacpp 8080 required",
			[]string{"gpu: required; the driver does not answer"},
		},
		"one of AMD": {
			host{engines: with("llamacpp"), gpus: []engine.GPU{{Vendor: engine.VendorAMD, Name: "AMD GPU gfx1100"}, {Vendor: engine.VendorIntel, Name: "Intel GPU", Unified: true}}},
			Request{},
			"llamacpp 8080 optional",
			[]string{"gpu: optional; 1 GPU: AMD GPU gfx1100; the CPU serves where the engine was not built for it"},
		},
		"GPUs":     {host{engines: with("llamacpp"), gpus: gpus}, Request{}, "llamacpp 8080 required", []string{"gpu: required; 2 GPUs: NVIDIA H200"}},
		"as asked": {host{engines: with("llamacpp"), gpus: gpus}, Request{GPU: engine.GPUOptional, Port: 9000}, "llamacpp 9000 optional", nil},
		"a taken port": {
			host{engines: with("llamacpp"), taken: func(n int) bool { return n < 8082 }},
			Request{GPU: engine.GPUNone, NextPort: true},
			"llamacpp 8082 none",
			[]string{"port: 8082; 8080 is taken"},
		},
		"a port as asked": {
			host{engines: with("llamacpp"), taken: func(int) bool { return true }}, Request{GPU: engine.GPUNone, Port: 9, NextPort: true}, "llamacpp 9 none", nil,
		},
		"all taken": {
			host{engines: with("llamacpp"), taken: func(int) bool { return true }}, Request{GPU: engine.GPUNone, NextPort: true}, "llamacpp 8080 none", nil,
		},
		"no engine": {host{engines: with(), gpus: gpus[1:]}, Request{Obtain: true}, "llamacpp 8080 required b11070", []string{"gpu: required; 1 GPU: NVIDIA H200", "provisioning: release b11070; there is no llama-server in PATH"}},
		"left out":  {host{engines: with(), gpus: gpus[1:]}, Request{}, "llamacpp 8080 required", []string{"gpu: required; 1 GPU: NVIDIA H200"}},
		"a package": {
			host{engines: with(), gpus: gpus[1:]},
			Request{Engine: "vllm", Obtain: true},
			"vllm 8000 required package",
			[]string{"gpu: required; 1 GPU: NVIDIA H200", "provisioning: package vllm==0.32.0; there is no vllm in PATH"},
		},
	} {
		d, err := test.host.draft(test.req, m, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := strings.TrimSpace(strings.Join([]string{d.Pool.Engine, strconv.Itoa(d.Pool.Port), string(d.Pool.GPU), d.Pool.Provisioning.Mode}, " "))
		if b := d.Pool.Provisioning.Binary; b != nil {
			got += " " + b.Release
		}
		if got != test.want || !slices.Equal(d.Notes, test.notes) {
			t.Errorf("%s: %s %q, want %s %q", name, got, d.Notes, test.want, test.notes)
		}
	}
}

func TestIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr, _ := l.Addr().(*net.TCPAddr)
	if !isTaken(addr.Port) {
		t.Errorf("port %d is free", addr.Port)
	}
}

// The file that is written says what the draft says, whatever the model is called, or nothing is written.
func TestFileIsTheDraft(t *testing.T) {
	written := 0
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[^\x00/]{1,40}`).Draw(t, "name")
		req := Request{
			Obtain: rapid.Bool().Draw(t, "obtain"), Port: rapid.IntRange(1, 65535).Draw(t, "port"),
			Flags: rapid.SampledFrom([][]string{nil, {"-c", "512"}, {"--chat-template", "a\n\tb: \"c\" # d"}, {"--alias", "\u2028"}}).Draw(t, "flags"),
		}
		h := host{engines: with(), noGPU: fmt.Errorf("%w: %s", provisioner.ErrNoDriver, rapid.String().Draw(t, "reason"))}
		d, err := h.draft(req, model{id: "./" + name, local: true, kind: engine.ModelGGUF, name: name}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.YAML()
		if strings.ContainsFunc(name+strings.Join(req.Flags, ""), lost) && err != nil {
			return
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		config, err := provisioner.ParseConfig(text, "")
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		written++
		if got := config.Pools[0]; got.ID != d.Pool.ID || got.Model != d.Pool.Model || got.Port != d.Pool.Port || got.GPU != d.Pool.GPU ||
			got.Engine != d.Pool.Engine || !slices.Equal(got.Flags, d.Pool.Flags) || !reflect.DeepEqual(got.Provisioning, d.Pool.Provisioning) {
			t.Fatalf("%s\n%+v\n%+v", text, got, d.Pool)
		}
	})
	if written == 0 {
		t.Error("nothing was written")
	}
}

// lost reports whether a character cannot be written, or not so that it is read again.
func lost(r rune) bool {
	return r >= 0x7f && r <= 0x9f || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffd || r&0xfffe == 0xfffe
}

func TestMake(t *testing.T) {
	write(t, "chat.gguf")
	cache := provisioner.WithCacheDir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Make(t.Context(), Request{Model: "chat.gguf", GPU: engine.GPUNone, Flags: []string{"-c", "512"}}, cache)
	if err != nil {
		t.Fatal(err)
	}
	if r := d.Replica(); r.Name() != "chat/r0" || r.StateDir != ".runtime" || r.Model.ID != "chat.gguf" || r.Port != 8080 {
		t.Errorf("%+v", r)
	}
	d, err = Make(t.Context(), Request{Model: "chat.gguf", GPU: engine.GPUNone, Dir: t.TempDir()}, cache)
	if err != nil || d.Pool.Model.ID != filepath.Join(here, "chat.gguf") {
		t.Errorf("%+v, %v", d, err)
	}
	for name, test := range map[string]struct {
		req  Request
		want string
	}{
		"an owned flag": {Request{Model: "chat.gguf", Flags: []string{"--port", "99"}}, `flags[0]: "--port" cannot be given: it is set from "port"; write "port: 99"`},
		"a port":        {Request{Model: "chat.gguf", Port: 70000}, "port: must be from 1 to 65535, is 70000"},
		"a URL":         {Request{Model: "https://example.com/m.gguf"}, "model.sha256: is missing"},
		"a checksum":    {Request{Model: "chat.gguf", SHA256: "x"}, "model.sha256: belongs to a model from an https URL alone"},
		"a hub name":    {Request{Model: "hf:a--b"}, "model.id: "},
	} {
		test.req.GPU, test.req.Engine = engine.GPUNone, "llamacpp"
		d, err := Make(t.Context(), test.req, cache)
		if _, is := errors.AsType[*provisioner.ConfigError](err); !is || d != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

// Whatever is typed is a model with a name that files can have, or an error that can be shown.
func FuzzReadModel(f *testing.F) {
	for _, typed := range []string{"a.gguf", "org/repo@v1:Q4", "https://hf.co/o/r/blob/main/f.gguf?x#y", "local:a", "file:///x", "hf://a/b", "\x1b[m\n", "s3:x"} {
		f.Add(typed)
	}
	pool := regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, typed string) {
		m, err := readModel(typed)
		switch {
		case err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl):
			t.Errorf("%q: %q", typed, err)
		case err == nil && (m.id == "" || !pool.MatchString(m.pool())):
			t.Errorf("%q: %+v, pool %q", typed, m, m.pool())
		}
	})
}
