package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// ofOthers are the keys that other tools have where a pool is described, and what is written here. "-" is the same as "_".
var ofOthers = map[string]string{
	"name":         `"id"`,
	"count":        `"replicas"`,
	"instances":    `"replicas"`,
	"scale":        `"replicas"`,
	"address":      `"host"`,
	"bind":         `"host"`,
	"listen":       `"host" and "port"`,
	"type":         `"engine"`,
	"backend":      `"engine"`,
	"args":         `"flags"`,
	"arguments":    `"flags"`,
	"options":      `"flags"`,
	"extra_args":   `"flags"`,
	"parameters":   `"flags"`,
	"environment":  `"env"`,
	"env_file":     `"env", where {from_file: FILE} reads a secret`,
	"executable":   `"provisioning: {binary: {path: …}}"`,
	"path":         `"provisioning: {binary: {path: …}}", and a model's "model: {id: …}"`,
	"image":        `"provisioning: {container: {image: …}}"`,
	"entrypoint":   `"custom: {command: […]}" of the engine "custom"`,
	"cmd":          `"custom: {command: […]}" of the engine "custom", and "flags" of any other`,
	"healthcheck":  `"ready" and "liveness"`,
	"health_check": `"ready" and "liveness"`,
	"grace_period": `"stop: {grace: …}"`,
	"gpu_ids":      `"devices"`,
	"gpu_id":       `"devices"`,
	"model_path":   `"model: {id: …}"`,
	"model_id":     `"model: {id: …}"`,
	"hf_repo":      `"model: {id: hf:OWNER/REPO}"`,
	"token":        `"api_key: {from_env: NAME}", and that of the hub stands in the environment`,
	"api_token":    `"api_key: {from_env: NAME}"`,
}

var ofModel = lazyregexp.New(`^pools\[\d+\]\.model\.(path|file|name|repo|url|hf|model)$`)

var ofPool = lazyregexp.New(`^pools\[\d+\]\.([^.\[]+)$`)

// elsewhere says where a key of a pool belongs that is not merely misspelt: other tools have keys for what is here a flag of the
// engine, or a key of another name. "" is nothing better than the list of keys.
func elsewhere(p strictyaml.Problem) string {
	if m := ofModel.FindStringSubmatch(p.Key); m != nil && p.Strange {
		return fmt.Sprintf("unknown key %s; a file, folder, URL or repository is \"id\"", keys.Quoted(m[1]))
	}
	m := ofPool.FindStringSubmatch(p.Key)
	if m == nil || !p.Strange {
		return ""
	}
	is := "unknown key " + keys.Quoted(m[1])
	if here := ofOthers[strings.ReplaceAll(strings.ToLower(m[1]), "-", "_")]; here != "" {
		return is + "; here that is " + here
	}
	flag := "--" + strings.ReplaceAll(m[1], "_", "-")
	switch value := p.Value; {
	case value == strictyaml.Scalar{}: // a list or a block
		return ""
	case value.Kind == strictyaml.Bool && strings.EqualFold(value.Text, "true"):
	case value.Kind == strictyaml.Number:
		flag += fmt.Sprintf(", %q", keys.Short(value.Text))
	default: // a text may be a secret
		flag += ", …"
	}
	return fmt.Sprintf("%s; if that is a flag of the engine, write \"flags: [%s]\"", is, flag)
}

// inBlock is the key that a value stands for which was written in the place of a whole block.
var inBlock = map[string]string{
	"ready": "timeout", "drain": "timeout", "stop": "grace", "provisioning": "mode", "binary": "path", "container": "image", "download": "timeout",
}

// alone says in which key of a block a value belongs that stands in the place of the block; "" where that is not known.
func alone(p strictyaml.Problem) string {
	block := p.Key[strings.LastIndex(p.Key, ".")+1:]
	switch {
	case p.Unknown || p.Value.Kind != strictyaml.Text || p.Value.Text == "":
		return ""
	case block == "restart":
		return p.Message + "; an engine that dies is started again without it, and its keys are the limits of that"
	case inBlock[block] == "":
		return ""
	}
	value := p.Value.Text
	if block == "provisioning" {
		value = cmp.Or(otherWords[value], value)
		if !slices.Contains(Modes(), value) {
			return ""
		}
	}
	return fmt.Sprintf("%s; write {%s: %s}", p.Message, inBlock[block], keys.Short(value))
}

// otherWords are what people write for one of a few words.
var otherWords = map[string]string{
	"docker": "container", "podman": "container", "image": "container", "pip": "package", "uv": "package", "venv": "package", "git": "source", "build": "source",
	"local": "binary", "path": "binary", "yes": "required", "true": "required", "cuda": "required", "no": "none", "false": "none", "cpu": "none", "auto": "optional",
}
