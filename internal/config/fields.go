package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-playground/validator/v10"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/nearest"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// validate is built once, since it caches what it learns of types; it is safe for concurrent use and never changed.
var validate = sync.OnceValue(func() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		if f.Anonymous { // its keys are those of what it stands in
			return embedded
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return strings.TrimPrefix(name, "-")
	})
	// The error is for an empty tag name alone.
	_ = v.RegisterValidation("id", func(f validator.FieldLevel) bool { return IsID(f.Field().String()) })
	return v
})

// embedded stands in the path of a key for a block that has no key of its own.
const embedded = "+"

var index = lazyregexp.New(`\[\d+\]`)

// Fields checks what the validate tags of a struct's types say. engines are the names that "engine" can have.
func (k *Checker) Fields(of any, engines []string) {
	var broken validator.ValidationErrors
	if !errors.As(validate().Struct(of), &broken) {
		return
	}
	for _, b := range broken {
		_, key, _ := strings.Cut(b.Namespace(), ".")
		key = strings.ReplaceAll(key, embedded+".", "")
		k.Report(key, "%s", k.fieldMessage(key, b, engines))
	}
}

// missing says how to fill in a key that has no default.
var missing = map[string]string{
	"pools":    "list at least one pool",
	"id":       `name the pool, such as "default"`,
	"engine":   `name the engine, such as "llamacpp"`,
	"port":     "give the first replica's port, such as 8081",
	"model.id": `refer to the model, such as "local:/models/chat.gguf"`,

	"provisioning.source.repo": `name the git repository, such as "https://github.com/ggml-org/llama.cpp"`,
	"provisioning.source.ref":  `name a tag, a branch or a commit, such as "b11434"`,

	"drain.hooks.http.url": `give the address, such as "http://router:8080/drain/{pool}"`,
}

func (k *Checker) fieldMessage(key string, b validator.FieldError, engines []string) string {
	local, rule, value := strings.TrimPrefix(index.ReplaceAllString(key, ""), "pools."), b.Tag(), reflect.ValueOf(b.Value())
	switch {
	case rule == "required" && !k.Written(key):
		return "is missing; " + missing[local]
	case rule == "required" && value.Kind() == reflect.String, local == "pools" && rule == "min":
		return "is empty; " + missing[local]
	case local == "port":
		return fmt.Sprintf("must be from 1 to 65535, is %d", value.Int())
	case local == "replicas":
		return fmt.Sprintf("must be from 1 to 256, is %d", value.Int())
	case local == "provisioning.binary.strip":
		return fmt.Sprintf("must be from 0 to 16, is %d", value.Int())
	case local == "provisioning.source.jobs":
		return fmt.Sprintf("must be from 1 to 1024, is %d", value.Int())
	case local == "logs.keep":
		return fmt.Sprintf("must be from 1 to 1000, is %d", value.Int())
	case local == "pools":
		return fmt.Sprintf("holds %d pools, at most %d are possible", value.Len(), maxPools)
	case local == "drain.hooks":
		return fmt.Sprintf("holds %d hooks, at most 16 are possible", value.Len())
	case rule == "id" && local == "engine":
		return UnknownEngine(value.String(), engines)
	case rule == "id":
		return BadID(value.String())
	case rule == "ip":
		return badHost(value.String())
	case local == "provisioning.mode":
		return notOneOf(value.String(), Modes())
	case rule == "oneof":
		return notOneOf(value.String(), strings.Fields(b.Param()))
	case value.Kind() == reflect.Int64:
		return "must not be negative; leave it out for the default"
	}
	return outside(rule, b.Param(), value)
}

// outside says by how much a value is beyond a limit that has no words of its own.
func outside(rule, limit string, value reflect.Value) string {
	switch {
	case rule == "max" && value.Kind() == reflect.Slice:
		return fmt.Sprintf("holds %d entries, at most %s are possible", value.Len(), limit)
	case rule == "max" && value.Kind() == reflect.String:
		return fmt.Sprintf("is %d characters long, at most %s are possible", utf8.RuneCountInString(value.String()), limit)
	case rule == "max" && value.CanInt():
		return fmt.Sprintf("must be at most %s, is %d", limit, value.Int())
	case rule == "min" && value.CanInt():
		return fmt.Sprintf("must be at least %s, is %d", limit, value.Int())
	}
	return fmt.Sprintf("is not valid (%s %s)", rule, limit)
}

func badHost(host string) string {
	bare := strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(bare); err == nil && bare != host {
		return fmt.Sprintf("must be an IP address, is %q; write it without brackets", host)
	}
	return fmt.Sprintf("must be an IP address, is %q; write 127.0.0.1 for this machine alone", host)
}

func notOneOf(value string, allowed []string) string {
	message := fmt.Sprintf("must be %s, is %q", strictyaml.Or(allowed), value)
	if word := otherWords[strings.ToLower(value)]; slices.Contains(allowed, word) {
		return message + fmt.Sprintf("; write %q", word)
	}
	if near := nearest.Of(value, allowed); near != "" && len(allowed) > 1 {
		message += fmt.Sprintf("; did you mean %q?", near)
	}
	return message
}

// otherEngines are engines that have no name here, with what runs them.
var otherEngines = map[string]string{
	"llama.cpp": "llamacpp", "llama-server": "llamacpp", "llama": "llamacpp", "ggml": "llamacpp", "gguf": "llamacpp",
	"text-generation-inference": "tgi", "huggingface": "tgi",
	"ollama": "examples/ollama.yaml", "triton": "examples/triton.yaml", "llamafile": "examples/llamafile.yaml",
}

// UnknownEngine says that there is no engine of that name, and what there is.
func UnknownEngine(name string, known []string) string {
	switch other := otherEngines[strings.ToLower(name)]; {
	case strings.Contains(other, "/"):
		return fmt.Sprintf("unknown engine %q; write \"engine: custom\", as %s does", name, other)
	case other != "" && slices.Contains(known, other):
		return fmt.Sprintf("unknown engine %q; write %q", name, other)
	}
	if near := nearest.Of(name, known); near != "" {
		return fmt.Sprintf("unknown engine %q; did you mean %q?", name, near)
	}
	return fmt.Sprintf("unknown engine %q; the engines here are %s, of which \"custom\" runs any other HTTP server", name, strings.Join(known, ", "))
}

// UnknownPool says that there is no pool of that name, and what there is.
func UnknownPool(pool string, ids []string) error {
	if near := nearest.Of(pool, ids); near != "" {
		return fmt.Errorf("unknown pool %q; did you mean %q? The pools are %s", pool, near, strings.Join(ids, ", "))
	}
	return fmt.Errorf("unknown pool %q; the pools are %s", pool, strings.Join(ids, ", "))
}
