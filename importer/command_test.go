package importer_test

import (
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/importer"
)

// text is what a command line becomes.
func text(t *testing.T, args ...string) string {
	t.Helper()
	file, err := importer.Args(args, nil)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	out, err := file.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// What stands before an engine is taken away and told; the engine behind it is found.
func TestWrappers(t *testing.T) {
	t.Parallel()
	engine := "llama-server -m /m.gguf --port 8081"
	for before, want := range map[string]string{
		"exec":                          "",
		"nohup":                         "",
		"time -p":                       "",
		"nice":                          "left out: nice",
		"nice -n 10":                    "left out: nice -n 10:",
		"nice -10":                      "left out: nice -10:",
		"nice --adjustment=5":           "left out: nice --adjustment=5:",
		"ionice -c 2 -n 7":              "left out: ionice -c 2 -n 7:",
		"taskset -c 0-3":                "left out: taskset -c 0-3:",
		"taskset 0x3":                   "left out: taskset 0x3:",
		"chrt -f 50":                    "left out: chrt -f 50:",
		"timeout 30m":                   "left out: timeout 30m:",
		"timeout -k 5 --signal=INT 30m": "left out: timeout -k 5 --signal=INT 30m:",
		"numactl --cpunodebind=0 -m 0":  "left out: numactl --cpunodebind=0 -m 0:",
		"numactl --physcpubind 0-7 -l":  "left out: numactl --physcpubind 0-7 -l:",
		"stdbuf -oL -eL":                "left out: stdbuf -oL -eL:",
		"sudo":                          "left out: sudo: engines run as the user",
		"sudo -E -u llm":                "left out: sudo -E -u llm:",
		"sudo --user=llm --":            "left out: sudo --user=llm:",
		"env -u LD_PRELOAD A=1":         "left out: env -u LD_PRELOAD:",
		"env -i A=1":                    `A: "1"`,
		"env -S A=1":                    `A: "1"`,
		"A=1 exec B=2 nohup":            `B: "2"`,
		"systemd-run --user -p CPUQuota=50% --setenv=A=1": "left out: systemd-run --user -p CPUQuota=50%:",
		"conda run -n llm":                  "left out: conda run -n llm:",
		"uv run --with x":                   "left out: uv run --with x:",
		"gosu llm:llm":                      "left out: gosu llm:llm:",
		"tini -g --":                        "",
		"nice -n 1 taskset -c 0 timeout 5s": "left out: timeout 5s:",
	} {
		got := text(t, strings.Fields(before+" "+engine)...)
		if !strings.Contains(got, want) || !strings.Contains(got, "engine: llamacpp") || !strings.Contains(got, "id: /m.gguf") || !strings.Contains(got, "port: 8081") {
			t.Errorf("%s: want %q in\n%s", before, want, got)
		}
		if want == "" && strings.Contains(got, "#") {
			t.Errorf("%s: nothing is to be told:\n%s", before, got)
		}
	}
}

func TestShells(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"llama-server -m /m.gguf -c 1":                                    {"flags: -c 1"},
		"cd /opt/llama && exec ./llama-server -m m.gguf":                  {"id: /opt/llama/m.gguf", "path: /opt/llama/llama-server"},
		"source /v/bin/activate; vllm serve a/b":                          {"path: /v/bin/vllm", "id: hf:a/b"},
		"M=/m.gguf; llama-server -m $M -c ${C:-512} --alias \"$A\"":       {"id: /m.gguf", "-c 512", `decide: $A has no value`, "--alias '$A'"},
		"FLAGS='-c 1 -np 2'; llama-server -m /m.gguf $FLAGS":              {"flags: -c 1 -np 2"},
		"A=(-c 1 --alias 'two words'); llama-server -m /m.gguf ${A[@]}":   {"-c 1 --alias 'two words'"},
		"export CUDA_VISIBLE_DEVICES=1; llama-server -m /m.gguf":          {"devices:\n    - 1"},
		"X=1; llama-server -m /m.gguf":                                    {"pools:\n  - id: llamacpp"},
		"llama-server -m /m.gguf >> /var/log/x 2>&1 &":                    {"left out: the redirection >> /var/log/x"},
		"mkdir -p /x; llama-server -m /m.gguf --threads $(nproc)":         {"left out: the command mkdir -p /x", "decide: $(nproc) has no value", "--threads '$(nproc)'"},
		"while true; do llama-server -m /m.gguf; sleep 1; done":           {"decide: it stood inside a loop", "left out: the command sleep 1"},
		"llama-server -m /a.gguf --port 1; llama-server -m /b.gguf":       {"id: llamacpp\n", "id: llamacpp-2\n", "id: /b.gguf"},
		"bash -c 'sh -lc \"exec llama-server -m /m.gguf -c 7\"'":          {"flags: -c 7"},
		"llama-server -m /m.gguf \\\n  -c 7 \\\n  --alias it\\'s":         {`-c 7 --alias "it's"`},
		"llama-server -m /m.gguf --alias $'a\\tb'":                        {`a\tb`},
		"if test -e /x; then F=-v; fi; llama-server -m /m.gguf -c 1 $F":   {"decide: F=-v stood inside an \"if\""},
		"curl -H 'Authorization: Bearer hunter2' x; llama-server -m /m.g": {"left out: the command curl -H Authorization: Bearer [redacted]"},
	} {
		got := text(t, "bash", "-c", line)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: want %q in\n%s", line, w, got)
			}
		}
	}
}

func TestDockerRun(t *testing.T) {
	t.Parallel()
	vllm := "vllm/vllm-openai:v0.12.0 --model a/b"
	for line, want := range map[string][]string{
		"docker run " + vllm:                                                                                                                       {"mode: container", "tag: v0.12.0", "id: hf:a/b", "decide: no port was published", "decide: no GPU was asked for"},
		"docker run --gpus all -p 9000:8000 " + vllm:                                                                                               {"    port: 9000", `it listened on "0.0.0.0"`},
		"docker run --gpus=all -p 127.0.0.1:9000:8000/tcp " + vllm:                                                                                 {"    port: 9000"},
		"sudo docker --context x container run --gpus 2 " + vllm:                                                                                   {"decide: any 2 were asked for", "devices: auto"},
		"docker run --gpus \"device=0,GPU-1\" " + vllm:                                                                                             {"- 0", "- GPU-1"},
		"docker run --runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=2,3 -e CUDA_VISIBLE_DEVICES=1 " + vllm:                                              {"devices:\n    - 3\n"},
		"podman run --device nvidia.com/gpu=all --security-opt label=disable " + vllm:                                                              {"left out: --security-opt label=disable"},
		"docker run --device /dev/kfd --device /dev/dri rocm/vllm:latest vllm serve a/b":                                                           {"gpu: optional", "decide: it had the devices /dev/kfd /dev/dri"},
		"docker run -it --rm -d --name x --gpus all " + vllm:                                                                                       {"id: x", "left out: --detach --interactive --rm --tty"},
		"docker run --gpus all --ipc=host --shm-size=2g --network host -u 1000:1000 --pull always " + vllm + " --port 8123":                        {"ipc: host", "shm_size: 2GiB", "network: host", "user: 1000:1000", "pull: always", "port: 8123"},
		"docker run --gpus all -v /srv/m:/models:ro -p 8080:8080 ghcr.io/ggml-org/llama.cpp:server-cuda -m /models/sub/x.gguf":                     {"id: /srv/m/sub/x.gguf", "/srv/m:/models:ro"},
		"docker run --gpus all -v m:/models ghcr.io/ggml-org/llama.cpp:server-cuda -m /models/x.gguf":                                              {"decide: a path in a volume", "m:/models"},
		"docker run --gpus all --mount type=bind,source=/srv/m,target=/models,readonly ghcr.io/ggml-org/llama.cpp:full --server -m /models/x.gguf": {"id: /srv/m/x.gguf", "/app/llama-server"},
		"docker run --gpus all -v $HOME/m:/models ghcr.io/ggml-org/llama.cpp:server -m /models/x.gguf":                                             {"decide: the volume $HOME/m:/models"},
		"docker run --gpus all --entrypoint vllm vllm/vllm-openai@sha256:" + strings.Repeat("a", 64) + " serve a/b":                                {"digest: sha256:aaaa"},
		"docker run --gpus all -e HF_TOKEN -e HUGGING_FACE_HUB_TOKEN=hunter2 --env-file=.env " + vllm:                                              {"from_env: HF_TOKEN", "decide: --env-file .env was not read"},
		"docker run --gpus all lmsysorg/sglang:v0.5.9 python3 -m sglang.launch_server --model-path a/b --port 30000":                               {"engine: sglang", "port: 30000"},
		"docker run --gpus all -p 8080:80 -v /d:/data ghcr.io/huggingface/text-generation-inference:3.3.5 --model-id a/b":                          {"engine: tgi", "port: 8080"},
		"docker run --gpus all -p 1:1 -p 8000:8000 --ulimit memlock=-1 --cap-add=SYS_ADMIN " + vllm:                                                {"left out: the published port 1:1", "left out: --ulimit memlock=-1"},
	} {
		got := text(t, strings.Fields(line)...)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: want %q in\n%s", line, w, got)
			}
		}
		if strings.Contains(got, "hunter2") {
			t.Errorf("%s: a secret is in\n%s", line, got)
		}
	}
	got := text(t, "docker", "run", "--gpus", "all", "me/own:1", "bash", "-c", "exec vllm serve a/b --max-model-len 8k")
	if !strings.Contains(got, "image: me/own") || !strings.Contains(got, "flags: --max-model-len 8k") {
		t.Error(got)
	}
}

func TestArgsThatCannotBeImported(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                          "empty",
		"env A=1 nohup":             "empty",
		"-c 4096":                   "write the program before it",
		"vllm bench m":              `the subcommand "serve" is missing`,
		"docker compose up":         "import the file that it reads",
		"docker run -p 1:1":         "without an image",
		"docker run --nonsense=1 x": "cannot understand",
		"docker run nginx:1":        "no engine is known in it",
		"docker run ghcr.io/ggml-org/llama.cpp:light -m x": "no server",
		"docker run ghcr.io/ggml-org/llama.cpp:full -m x":  "starts no server",
		"docker run UPPER:x vllm serve m":                  "cannot import the image",
	} {
		if _, err := importer.Args(strings.Fields(line), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	for line, want := range map[string]string{
		"echo a; true": "no engine is started",
		"'open":        "cannot read it as a shell does",
		strings.Repeat("bash -c '", 1) + "bash -c \"bash -c x\"'": "",
	} {
		_, err := importer.Args([]string{"sh", "-c", line}, nil)
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	got := text(t, "llama-server", "-m", "/m.gguf", "--host", "/run/llama.sock")
	if !strings.Contains(got, `it listened on the unix socket "/run/llama.sock"`) || strings.Contains(got, "for other machines") {
		t.Error(got)
	}
}
