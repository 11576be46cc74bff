package config

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/llama-orch/engine-provisioner/internal/nearest"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// broken is a rule that a field breaks.
type broken struct {
	key   string // from the top of the value that is checked
	rule  string // such as "max"
	limit string // such as "256"
	value reflect.Value
}

// breaks lists the rules of validate tags that a struct breaks, in the order of its fields: of each field the first one. The
// rules are required, omitempty, min, max, oneof, id, ip and dive.
//
// They are read here since the library for such tags links 39 packages for the hundred rules that it has beside these.
func breaks(of reflect.Value, prefix string) []broken {
	var all []broken
	for i := range of.NumField() {
		field := of.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		key := prefix
		if !field.Anonymous {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			key += name
		}
		all = append(all, breaksOf(of.Field(i), key, strings.Split(field.Tag.Get("validate"), ","), field.Anonymous)...)
	}
	return all
}

func breaksOf(value reflect.Value, key string, rules []string, embedded bool) []broken {
	for value.Kind() == reflect.Pointer && !value.IsNil() {
		value = value.Elem()
	}
	if value.Kind() == reflect.Struct {
		if embedded {
			return breaks(value, key)
		}
		return breaks(value, key+".")
	}
	for _, rule := range rules {
		name, limit, _ := strings.Cut(rule, "=")
		switch {
		case name == "omitempty" && empty(value):
			return nil
		case name == "dive":
			var all []broken
			for i := range value.Len() {
				all = append(all, breaksOf(value.Index(i), fmt.Sprintf("%s[%d]", key, i), nil, false)...)
			}
			return all
		case !keeps(value, name, limit):
			return []broken{{key, name, limit, value}}
		}
	}
	return nil
}

// empty tells a value that was left out; a list that is there and has nothing was not.
func empty(v reflect.Value) bool { return v.IsZero() }

func keeps(v reflect.Value, rule, limit string) bool {
	switch rule {
	case "", "omitempty":
		return true
	case "required":
		return !empty(v)
	case "min":
		return size(v) >= number(limit)
	case "max":
		return size(v) <= number(limit)
	case "oneof":
		return slices.Contains(strings.Fields(limit), v.String())
	case "id":
		return IsID(v.String())
	case "ip":
		return net.ParseIP(v.String()) != nil
	}
	return false // a mistake in a tag, which every configuration finds
}

func size(v reflect.Value) int64 {
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		return v.Int()
	case reflect.String:
		return int64(utf8.RuneCountInString(v.String()))
	}
	return int64(v.Len())
}

func number(limit string) int64 {
	n, _ := strconv.ParseInt(limit, 10, 64) // it stands in a tag
	return n
}

var index = regexp.MustCompile(`\[\d+\]`)

// Fields checks what the validate tags of a struct's types say. engines are the names that "engine" can have.
func (k *Checker) Fields(of any, engines []string) {
	for _, b := range breaks(reflect.ValueOf(of), "") {
		k.Report(b.key, "%s", k.fieldMessage(b, engines))
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

func (k *Checker) fieldMessage(b broken, engines []string) string {
	local, value := strings.TrimPrefix(index.ReplaceAllString(b.key, ""), "pools."), b.value
	switch {
	case b.rule == "required" && !k.Written(b.key):
		return "is missing; " + missing[local]
	case b.rule == "required" && value.Kind() == reflect.String, local == "pools" && b.rule == "min":
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
		return fmt.Sprintf("holds %d pools, at most 256 are possible", value.Len())
	case local == "drain.hooks":
		return fmt.Sprintf("holds %d hooks, at most 16 are possible", value.Len())
	case b.rule == "id" && local == "engine":
		return UnknownEngine(value.String(), engines)
	case b.rule == "id":
		return BadID(value.String())
	case b.rule == "ip":
		return badHost(value.String())
	case local == "provisioning.mode":
		return notOneOf(value.String(), Modes())
	case b.rule == "oneof":
		return notOneOf(value.String(), strings.Fields(b.limit))
	case value.Kind() == reflect.Int64:
		return "must not be negative; leave it out for the default"
	}
	return fmt.Sprintf("is not valid (%s %s)", b.rule, b.limit)
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
	if near := nearest.Of(value, allowed); near != "" && len(allowed) > 1 {
		message += fmt.Sprintf("; did you mean %q?", near)
	}
	return message
}

// UnknownEngine says that there is no engine of that name, and what there is.
func UnknownEngine(name string, known []string) string {
	if near := nearest.Of(name, known); near != "" {
		return fmt.Sprintf("unknown engine %q; did you mean %q?", name, near)
	}
	return fmt.Sprintf("unknown engine %q; the engines here are %s", name, strings.Join(known, ", "))
}

// UnknownPool says that there is no pool of that name, and what there is.
func UnknownPool(pool string, ids []string) error {
	if near := nearest.Of(pool, ids); near != "" {
		return fmt.Errorf("unknown pool %q; did you mean %q? The pools are %s", pool, near, strings.Join(ids, ", "))
	}
	return fmt.Errorf("unknown pool %q; the pools are %s", pool, strings.Join(ids, ", "))
}
