// Command holds tells whether a JSON document is what a schema says: "holds SCHEMA DOCUMENT". Tests of packages run it that shall
// not need a library for this.
package main

import (
	"fmt"
	"os"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func main() {
	if err := holds(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func holds(schema, document string) error {
	of, err := jsonschema.NewCompiler().Compile(schema)
	if err != nil {
		return err
	}
	file, err := os.Open(document)
	if err != nil {
		return err
	}
	defer file.Close()
	value, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		return err
	}
	return of.Validate(value)
}
