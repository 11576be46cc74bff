package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Empty refuses what is written in the file as empty text or as 0, and would pass for a key that was left out, where nothing else
// is wrong with it. In Go that is what it means.
func (k *Checker) Empty(file any) { k.empty(reflect.ValueOf(file), "") }

// empty is Empty of the value v at key.
func (k *Checker) empty(v reflect.Value, key string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			k.empty(v.Elem(), key)
		}
	case reflect.Slice:
		for i := range v.Len() {
			k.empty(v.Index(i), fmt.Sprintf("%s[%d]", key, i))
		}
	case reflect.Map:
		for _, name := range v.MapKeys() {
			if value, is := v.MapIndex(name).Interface().(settings.EnvValue); is && value.Secret != nil {
				k.empty(reflect.ValueOf(*value.Secret), keys.Join(key, name.String()))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case !f.IsExported() || name == "-":
			case f.Anonymous:
				k.empty(v.Field(i), key)
			case v.Field(i).IsZero() && f.Type.Kind() != reflect.Struct:
				if at := strings.TrimPrefix(key+"."+name, "."); k.Written(at) {
					k.wrong(at, badEmpty(v.Field(i).Kind(), name, f.Tag.Get("validate")))
				}
			default:
				k.empty(v.Field(i), strings.TrimPrefix(key+"."+name, "."))
			}
		}
	}
}

// badEmpty says what is wrong with an empty value under a rule; "" where 0 has a meaning.
func badEmpty(kind reflect.Kind, name, rule string) string {
	_, allowed, oneof := strings.Cut(rule, "oneof=")
	switch {
	case name == "from_env" || name == "from_file": // exactly one of which is there
		return "is empty; write where the secret is, or remove the key"
	case oneof:
		return "is empty; write " + strictyaml.Or(strings.Fields(allowed)) + ", or remove the key for the default"
	case kind == reflect.String:
		return "is empty; write it, or remove the key for the default"
	}
	var least, most int
	if _, err := fmt.Sscanf(rule, "omitempty,min=%d,max=%d", &least, &most); err == nil && least > 0 {
		return fmt.Sprintf("must be from %d to %d, is 0; leave the key out for the default", least, most)
	}
	return ""
}
