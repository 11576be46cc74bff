package lastwords

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLast(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log   string
		first string
		after int
	}{
		"nothing": {"", "", 0},
		"no error": {
			"0.00.000.908 I srv  llama_server: initializing ...\n0.00.013.137 W srv  llama_server: security: no API key is set", "", 0,
		},
		"two tries": { // the first one only measures
			`0.00.014.767 I srv    load_model: loading model 'tiny.gguf'
0.00.014.837 E gguf_init_from_file: failed to open GGUF file '/models/a.gguf'
0.00.195.562 I cmn          init: llama threadpool init, n_threads = 2
0.00.212.793 E gguf_init_from_file: failed to open GGUF file '/models/b.gguf'
0.00.212.864 E mtmd_init_from_file: error: Failed to load CLIP model from /models/b.gguf

0.00.212.870 I srv    operator(): operator(): cleaning up before exit...
0.00.214.635 E srv  llama_server: exiting due to model loading error`,
			"gguf_init_from_file: failed to open GGUF file '/models/b.gguf'", 0,
		},
		"without times": {
			"I srv  load_model: loading\nE llama_model_load: error loading model: wrong number of tensors\nE srv  main: exiting due to model loading error",
			"llama_model_load: error loading model: wrong number of tensors", 0,
		},
		"debug lines in between": {
			"0.00.000.100 I srv load_model: loading\n0.00.000.101 E gguf: bad\n0.00.000.102 D ggml: freed\n0.00.000.103 E srv load_model: failed", "gguf: bad", 0,
		},
		"went on": { // served for hours after it
			"0.00.000.101 E srv  send_error: task id = 3, error: too long\n0.00.000.105 I slot release: id 0\n0.00.000.107 I slot release: id 1",
			"srv  send_error: task id = 3, error: too long", 2,
		},
		"before marks": { // llama.cpp of 2024
			`llama_model_loader: loaded meta data with 19 key-value pairs
llama_model_load: error loading model: create_tensor: tensor 'output.weight' not found
llama_load_model_from_file: failed to load model
main: exiting due to model loading error`,
			"llama_model_load: error loading model: create_tensor: tensor 'output.weight' not found", 0,
		},
		"an assertion among marks": {
			"0.00.057.641 W srv  llama_server: no key\n./src/llama-context.cpp:2384: GGML_ASSERT(n > 0) failed\n[New LWP 26592]\nwarning: File \"x\" auto-loading has been declined\n#0  0x00007f in ?? ()",
			"./src/llama-context.cpp:2384: GGML_ASSERT(n > 0) failed", 0,
		},
		"terminate": {
			"0.00.1 nothing\nterminate called after throwing an instance of 'std::runtime_error'\n  what():  failed to parse grammar", "what():  failed to parse grammar", 0,
		},
		"root cause above": { // of vLLM
			`(EngineCore pid=4300) INFO 11-23 10:00:40 [core.py:90] loading
(EngineCore pid=4300) ERROR 11-23 10:00:44 [core.py:1200] EngineCore failed to start.
(EngineCore pid=4300) ERROR 11-23 10:00:44 [core.py:1200] Traceback (most recent call last):
(EngineCore pid=4300) ERROR 11-23 10:00:44 [core.py:1200]   File "/opt/vllm/core.py", line 1, in run
(EngineCore pid=4300) ERROR 11-23 10:00:44 [core.py:1200]     raise ValueError("no")
(EngineCore pid=4300) ERROR 11-23 10:00:44 [core.py:1200] ValueError: There is no such layer as "blk.9"
(EngineCore pid=4300) Process EngineCore:
(EngineCore pid=4300) Traceback (most recent call last):
(EngineCore pid=4300)   File "/opt/vllm/core.py", line 1, in run
(EngineCore pid=4300) ValueError: There is no such layer as "blk.9"
[rank0]:[W1124 10:00:45.1 ProcessGroupNCCL.cpp:1496] Warning: destroy_process_group() was not called
(APIServer pid=4242) Traceback (most recent call last):
(APIServer pid=4242)   File "/opt/vllm/cli.py", line 1, in main
(APIServer pid=4242) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}`,
			`ValueError: There is no such layer as "blk.9"`, 0,
		},
		"a chain": {
			`Traceback (most recent call last):
  File "a.py", line 1, in f
KeyError: 'rope'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 2, in f
ConfigError: the model's config has no rope scaling

Traceback (most recent call last):
  File "b.py", line 2, in g
RuntimeError: the worker is gone`,
			"ConfigError: the model's config has no rope scaling", 0,
		},
		"a caught exception": {
			`Traceback (most recent call last):
  File "a.py", line 1, in f
ImportError: no flash_attn
INFO 11-23 10:00:44 [core.py:1] going on without
(EngineCore pid=1) Traceback (most recent call last):
(EngineCore pid=1)   File "a.py", line 1, in f
(EngineCore pid=1) AttributeError: 'NoneType' object has no attribute 'shape'`,
			"AttributeError: 'NoneType' object has no attribute 'shape'", 0,
		},
		"pydantic": {
			"(APIServer pid=4242) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n" +
				"(APIServer pid=4242)   Value error, max_model_len is too long [type=value_error]",
			"pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig: Value error, max_model_len is too long [type=value_error]", 0,
		},
		"SGLang": {
			`[2026-07-20 10:00:00] TP0] Scheduler hit an exception: Traceback (most recent call last):
  File "scheduler.py", line 1, in run
AssertionError: head size 7
[2026-07-20 10:00:00] Received sigquit from a child process. It usually means the child failed.`,
			"AssertionError: head size 7", 0,
		},
		"TGI": {
			`2026-01-08T10:00:00.000000Z  INFO text_generation_launcher: Starting shard
2026-01-08T10:00:00.000000Z ERROR shard-manager: text_generation_launcher: Shard complete standard error output:
KeyError: 'lm_head.weight' rank=0
2026-01-08T10:00:00.000000Z ERROR text_generation_launcher: Shard 0 failed to start
2026-01-08T10:00:00.000000Z  INFO text_generation_launcher: Shutting down shards
Error: ShardCannotStart`,
			"KeyError: 'lm_head.weight' rank=0", 0,
		},
		"uvicorn": {
			"INFO:     Started server process [4242]\nERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 30000): address already in use\nINFO:     Shutting down",
			"[Errno 98] error while attempting to bind on address ('127.0.0.1', 30000): address already in use", 0,
		},
		"logfmt": {"time=1 level=info msg=up\ntime=2 level=error msg=\"no model\"", "time=2 level=error msg=\"no model\"", 0},
		"JSON":   {"{\"level\":\"info\"}\n{\"level\":\"error\",\"msg\":\"no model\"}", "{\"level\":\"error\",\"msg\":\"no model\"}", 0},
		"only the pointer": {
			"0.00.000.100 I srv load_model: loading\n0.00.000.103 E srv  llama_server: exiting due to model loading error", "srv  llama_server: exiting due to model loading error", 0,
		},
	} {
		got := Last(strings.Split(c.log, "\n"))
		if got.First != c.first || got.After != c.after {
			t.Errorf("%s:\n got %q, %d lines after\nwant %q, %d", name, got.First, got.After, c.first, c.after)
		}
	}
}

// Whatever an engine prints: the block is a part of the log.
func FuzzLast(f *testing.F) {
	files, err := filepath.Glob("../../engine/*/testdata/logs/*.log")
	if err != nil || len(files) < 50 {
		f.Fatalf("%d logs, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, log string) {
		lines := strings.Split(log, "\n")
		got := Last(lines)
		if got.After < 0 || got.After > len(lines) || len(got.Lines) > len(lines) {
			t.Errorf("%d lines after, %d in the block, of %d", got.After, len(got.Lines), len(lines))
		}
		if got.First != "" && len(got.Lines) == 0 {
			t.Errorf("%q is of no line", got.First)
		}
		for _, line := range got.Lines {
			if !slices.Contains(lines, line) {
				t.Errorf("%q is not of the log", line)
			}
		}
	})
}
