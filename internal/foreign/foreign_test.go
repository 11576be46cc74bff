package foreign

import "testing"

func TestOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		want       Kind
	}{
		{"pools.yaml", "pools: []", Pools},
		{"any.json", `{"pools": []}`, Pools},
		{"any", "state_dir: x\npools: [{id: a}]\nservices: x", Pools},
		{"any", "version: '3'\nservices: {}", Compose},
		{"any", `{"name": "x", "services": {}}`, Compose},
		{"any", "macros: {}\nmodels: {}", LlamaSwap},
		{"any", "[Unit]\nDescription=x\n[Service]\n", Unit},
		{"any", "# x\r\n[Service]\r\nExecStart=x\r\n", Unit},
		{"any", "[Container]\nImage=x\n[Service]\nRestart=always\n", Quadlet},
		{"any", "# x\n\nFROM llama3\n", Modelfile},
		{"any", "from llama3\nsystem x\n", Modelfile},
		{"Dockerfile", "FROM debian\nRUN true\n", Dockerfile},
		{"Modelfile", "FROM x\nSYSTEM \"\"\"\nRUN fast\n\"\"\"\n", Modelfile},
		{"any", "#!/usr/bin/env bash\n", Script},
		{"any", "#!/bin/sh\nservices: {}\n", Script},
		{"x.sh", "llama-server -m x\n", Script},
		{"any", "#!/usr/bin/python3\n", ""},
		{"any", "a: b\n", ""},
		{"any", "", ""},
		{"any", "services: \x00", ""},
		{"any", "services: \xff", ""},
		{"any", "- services\n", ""},
		{"any", "services: [", ""},
	} {
		if got := Of([]byte(c.text), c.name); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.name, c.text, got, c.want)
		}
	}
	for kind, want := range map[Kind]string{Modelfile: "an Ollama Modelfile", Unit: "a systemd unit"} {
		if got := kind.Article(); got != want || !kind.Importable() {
			t.Errorf("%s: %s", kind, got)
		}
	}
	for _, kind := range []Kind{"", Pools, Dockerfile} {
		if kind.Importable() {
			t.Errorf("%s can be imported", kind)
		}
	}
}
