package provisioner

import (
	_ "embed"
	"slices"
)

// configSchema is generated from the types of config.go and their comments; a test keeps it current.
//
//go:embed config.schema.json
var configSchema []byte

// ConfigSchema returns the JSON Schema (draft 2020-12) of a pools file, for editors and other tools. It describes the
// file's shape; what depends on two keys at once, such as ports that clash, only [LoadConfig] finds.
func ConfigSchema() ([]byte, error) { return slices.Clone(configSchema), nil }
