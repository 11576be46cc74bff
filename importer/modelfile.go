package importer

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/llama-orch/engine-provisioner/importer/internal/argline"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	reader "github.com/llama-orch/engine-provisioner/internal/modelfile"
)

// parameters are Ollama's, as flags of llama-server. What Ollama gives where a request says nothing, the server does too.
var parameters = map[string]string{
	"num_ctx": "--ctx-size", "num_batch": "--batch-size", "num_thread": "--threads", "num_keep": "--keep", "num_predict": "--predict",
	"main_gpu": "--main-gpu", "seed": "--seed", "temperature": "--temp", "top_k": "--top-k", "top_p": "--top-p", "min_p": "--min-p",
	"typical_p": "--typical", "repeat_last_n": "--repeat-last-n", "repeat_penalty": "--repeat-penalty",
	"presence_penalty": "--presence-penalty", "frequency_penalty": "--frequency-penalty",
	"mirostat": "--mirostat", "mirostat_tau": "--mirostat-ent", "mirostat_eta": "--mirostat-lr",
}

// noParameter says of others why no flag says the same.
var noParameter = map[string]string{
	"stop":                 "clients send it with each request; the model's own end is known",
	"tfs_z":                "llama-server has it no more",
	"penalize_newline":     "llama-server has it no more",
	"num_gqa":              "the model's file says it",
	"rope_frequency_base":  "the model's file says it",
	"rope_frequency_scale": "the model's file says it",
	"low_vram":             "llama-server has it no more",
	"f16_kv":               "--cache-type-k and --cache-type-v say it",
	"vocab_only":           "it would serve nothing",
	"numa":                 "--numa says how",
}

// modelfile makes a pool of Ollama's Modelfile, for llama-server.
func modelfile(data []byte, path string) (*File, error) {
	instructions, err := reader.Read(string(data))
	if err != nil {
		return nil, err
	}
	p := &pool{argline.Pool{ID: "llamacpp", Engine: "llamacpp", Keys: map[string]argline.Key{}}}
	dir := filepath.Dir(path)
	var args []string
	from := 0
	for _, i := range instructions {
		if strings.TrimSpace(i.Value) == "" {
			continue
		}
		switch i.Name {
		case "from":
			if from++; from > 1 {
				p.takeProjector(i.Value, dir, &args)
				continue
			}
			p.takeFrom(i.Value, dir)
		case "parameter":
			p.takeParameter(i.Value, &args)
		case "adapter":
			args = append(args, "--lora", inFolder(dir, i.Value))
			if !strings.HasSuffix(strings.ToLower(i.Value), ".gguf") {
				p.note("decide: ADAPTER %s: llama-server takes adapters as GGUF files", show(i.Value))
			}
		case "draft":
			args = append(args, "--model-draft", inFolder(dir, i.Value))
		case "system":
			p.note("left out: SYSTEM %s: clients send it with each request", show(i.Value))
		case "template":
			p.note("left out: TEMPLATE %s: llama-server takes the template of the model's own file, or one in Jinja by --chat-template-file", show(i.Value))
		case "message":
			p.note("left out: MESSAGE %s: clients send it with each request", show(i.Value))
		case "renderer", "parser":
			p.note("left out: %s %s: llama-server takes the template of the model's own file", strings.ToUpper(i.Name), show(i.Value))
		default:
			p.note("left out: %s %s", strings.ToUpper(i.Name), show(i.Value))
		}
	}
	if from == 0 {
		return nil, errors.New("it has no FROM")
	}
	p.decide("port", 8080, "Ollama serves all of its models at one port; this is llama-server's own")
	if len(args) > 0 {
		p.set("flags", args, p.Keys["flags"].Note)
	}
	return &File{pools: []*pool{p}}, nil
}

// hubModel is a model of the hub by Ollama's name for it.
var hubModel = lazyregexp.New(`^(?:https?://)?(?:hf\.co|huggingface\.co)/([^/\s:]+/[^/\s:]+?)(?::([A-Za-z0-9_.-]+))?$`)

var windowsPath = lazyregexp.New(`^[A-Za-z]:[\\/]`)

// takeFrom takes the model.
func (p *pool) takeFrom(from, dir string) {
	if m := hubModel.FindStringSubmatch(from); m != nil {
		id := "hf:" + m[1]
		if m[2] != "" && m[2] != "latest" {
			id += ":" + m[2]
			p.setModel(id, "")
		} else {
			p.setModel(id+":Q4_K_M", "Ollama takes Q4_K_M where no quantization is named")
		}
		p.ID = poolID(filepath.Base(m[1]))
		return
	}
	file := inFolder(dir, from)
	switch {
	case windowsPath.MatchString(from):
		p.setModel("/path/to/model.gguf", fmt.Sprintf("decide: it was %s, a path of Windows", show(from)))
	case strings.HasSuffix(strings.ToLower(from), ".gguf"):
		p.setModel(file, "")
		p.ID = poolID(strings.TrimSuffix(filepath.Base(from), filepath.Ext(from)))
	case strings.Contains(from, "/blobs/sha256"):
		p.setModel(file, "a file of Ollama's own store, which \"ollama rm\" removes")
	case strings.HasPrefix(from, ".") || strings.HasPrefix(from, "/") || strings.HasPrefix(from, "~"):
		p.setModel(file, "decide: llama-server takes one GGUF file; for a folder of safetensors write \"engine: vllm\", or convert it")
	default:
		p.setModel("/path/to/model.gguf", fmt.Sprintf("decide: %s is a name in Ollama's library: \"ollama show --modelfile %s\" names its file, or write one of the hub: hf:OWNER/REPO:QUANT", show(from), show(from)))
		p.ID = poolID(from)
	}
}

// takeProjector takes the second FROM of a model that sees.
func (p *pool) takeProjector(from, dir string, args *[]string) {
	if strings.Contains(strings.ToLower(from), "mmproj") || strings.Contains(strings.ToLower(from), "projector") {
		*args = append(*args, "--mmproj", inFolder(dir, from))
		return
	}
	*args = append(*args, "--mmproj", inFolder(dir, from))
	p.set("flags", nil, "decide: a second FROM is a projector, as --mmproj is; or it is a part of the model, which the first part finds by itself")
}

// inFolder is a path that a Modelfile names, which is relative to its folder.
func inFolder(dir, path string) string {
	if filepath.IsAbs(path) || strings.HasPrefix(path, "~") || strings.HasPrefix(path, "$") {
		return path
	}
	return filepath.Join(dir, path)
}

// takeParameter takes "NAME VALUE".
func (p *pool) takeParameter(text string, args *[]string) {
	name, value := reader.CutWord(text)
	name = strings.ToLower(name)
	flag, known := parameters[name]
	switch {
	case known:
		*args = append(*args, flag, value)
	case name == "num_gpu" && value == "0":
		p.set("gpu", "none", "")
	case name == "num_gpu" && value != "-1":
		*args = append(*args, "--n-gpu-layers", value)
	case name == "num_gpu":
	case name == "use_mmap" && value == "false":
		*args = append(*args, "--no-mmap")
	case name == "use_mlock" && value == "true":
		*args = append(*args, "--mlock")
	case name == "use_mmap" || name == "use_mlock": // what llama-server does by itself
	case noParameter[name] != "":
		p.note("left out: PARAMETER %s: %s", show(text), noParameter[name])
	default:
		p.note("left out: PARAMETER %s: no flag of llama-server is known for it", show(text))
	}
}
