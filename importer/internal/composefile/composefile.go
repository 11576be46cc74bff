// Package composefile makes of the services of a Compose file what its short forms mean, for package importer. Reading the
// file and giving variables their values is the caller's; no other file is read, and no service is judged.
//
// It is made of the parts of compose-go. Their loader would check the file against the schema of Compose as well, and with it
// every program that links it would compile schemas when it starts: 4 ms for a command that imports nothing. A module of its
// own holds what comes out of both against each other.
package composefile

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/override"
	"github.com/compose-spec/compose-go/v2/paths"
	"github.com/compose-spec/compose-go/v2/transform"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/go-viper/mapstructure/v2"
)

// Services are those of a file, by their names. Relative paths in them become absolute ones, from dir on.
func Services(services map[string]any, dir string) (_ types.Services, err error) {
	// What is no service at all makes parts of the library panic, which take for granted that the schema has been held.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is not built like one: %v", p)
		}
	}()
	services, _ = clone(services).(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if err := extend(services, name, nil); err != nil {
			return nil, err
		}
	}
	file := map[string]any{"services": services}
	for _, step := range []func(map[string]any) (map[string]any, error){
		override.EnforceUnicity,
		func(file map[string]any) (map[string]any, error) { return transform.Canonical(file, false) },
		override.EnforceUnicity, // a range of ports can have one twice
		transform.SetDefaultValues,
		func(file map[string]any) (map[string]any, error) {
			return file, paths.ResolveRelativePaths(file, dir, nil)
		},
	} {
		if file, err = step(file); err != nil {
			return nil, err
		}
	}
	all := types.Services{}
	for name, values := range block(file["services"]) {
		var service types.ServiceConfig
		if err := decode(values, &service); err != nil {
			return nil, fmt.Errorf("services.%s: %w", name, err)
		}
		service.Name = name
		all[name] = service
	}
	return all, nil
}

func block(value any) map[string]any {
	m, _ := value.(map[string]any)
	return m
}

// extend gives a service what the one that it extends has; below are those that are being extended.
func extend(services map[string]any, name string, below []string) error {
	service, ok := services[name].(map[string]any)
	switch {
	case !ok:
		return fmt.Errorf("services.%s must be a block", name)
	case slices.Contains(below, name):
		return fmt.Errorf("services.%s extends itself", name)
	}
	extends, ok := service["extends"]
	if !ok {
		return nil
	}
	other, ok := extends.(string)
	if !ok {
		other, _ = block(extends)["service"].(string)
	}
	if err := extend(services, other, append(below, name)); err != nil {
		return err
	}
	merged, err := override.ExtendService(clone(services[other]).(map[string]any), service)
	if err != nil {
		return err
	}
	delete(merged, "extends")
	services[name] = merged
	return nil
}

// clone is a copy of plain values that shares nothing with them.
func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, one := range v {
			m[key] = clone(one)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, one := range v {
			list[i] = clone(one)
		}
		return list
	}
	return value
}

// decode fills a struct of compose-go. Numbers and truth values may stand there as text, and text as a number.
func decode(values any, service *types.ServiceConfig) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: service, TagName: "yaml", Squash: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(byItself, byText),
	})
	if err != nil {
		return err
	}
	return d.Decode(values)
}

// byItself lets the types of compose-go read what is theirs.
func byItself(from, to reflect.Value) (any, error) {
	if to.Kind() == reflect.Pointer && to.IsNil() {
		if !to.Type().Implements(reflect.TypeFor[decoder]()) {
			return from.Interface(), nil
		}
		to.Set(reflect.New(to.Type().Elem()))
	}
	d, ok := to.Interface().(decoder)
	if !ok && to.CanAddr() {
		d, ok = to.Addr().Interface().(decoder)
	}
	if !ok {
		return from.Interface(), nil
	}
	err := d.DecodeMapstructure(from.Interface())
	return to.Interface(), err
}

type decoder interface{ DecodeMapstructure(any) error }

func byText(from, to reflect.Value) (any, error) {
	switch {
	case from.Kind() == reflect.Int && to.Kind() == reflect.String:
		return strconv.FormatInt(from.Int(), 10), nil
	case from.Kind() != reflect.String:
		return from.Interface(), nil
	}
	text := from.String()
	switch to.Kind() {
	case reflect.Bool:
		return truth(text)
	case reflect.Int:
		return strconv.Atoi(text)
	case reflect.Int64, reflect.Uint32, reflect.Uint64:
		return strconv.ParseInt(text, 10, 64)
	case reflect.Float32, reflect.Float64:
		return strconv.ParseFloat(text, 64)
	}
	return text, nil
}

// truth is one of YAML 1.1's words for it.
func truth(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "y", "yes", "on":
		return true, nil
	case "false", "n", "no", "off":
		return false, nil
	}
	return false, errors.New(strconv.Quote(text) + " is neither true nor false")
}
