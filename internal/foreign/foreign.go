// Package foreign tells what a file is that somebody has given as a pools file, or to be imported: by its content first, and
// by its name where that leaves a doubt. It reads only the data that it is given, and understands nothing of what they mean.
//
// The loader of a configuration calls it, for its error, and the package importer.
package foreign

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// Kind is what a file is, in words that follow "a" or "an" with [Kind.Article]. The zero value is a file that is not known.
type Kind string

// The kinds.
const (
	Pools      Kind = "pools file"
	LlamaSwap  Kind = "llama-swap configuration"
	Compose    Kind = "Docker Compose file"
	Unit       Kind = "systemd unit"
	Quadlet    Kind = "Podman Quadlet unit"
	Modelfile  Kind = "Ollama Modelfile"
	Dockerfile Kind = "Dockerfile"
	Script     Kind = "shell script"
)

// Article is the kind with its article.
func (k Kind) Article() string {
	if k == Modelfile {
		return "an " + string(k)
	}
	return "a " + string(k)
}

// Importable reports whether the package importer makes a pools file of it.
func (k Kind) Importable() bool { return k != "" && k != Pools && k != Dockerfile }

var (
	shebang     = lazyregexp.New(`^#!.*\b(ba|da|z|k)?sh\b`)
	section     = lazyregexp.New(`(?m)^[ \t]*\[(Unit|Service|Install|Container)\][ \t]*\r?$`)
	instruction = lazyregexp.New(`^(?i)(FROM|PARAMETER|TEMPLATE|SYSTEM|ADAPTER|LICENSE|MESSAGE|RENDERER|PARSER|REQUIRES|DRAFT)[ \t]+\S`)
	imageStep   = lazyregexp.New(`(?m)^[ \t]*(RUN|CMD|COPY|ADD|ENTRYPOINT|WORKDIR|EXPOSE|ARG|ENV)[ \t]`)
)

// Of tells what data are that were read from a file of that name.
func Of(data []byte, name string) Kind {
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return ""
	}
	if shebang.Match(data) {
		return Script
	}
	if sections := section.FindAllSubmatch(data, -1); sections != nil {
		if slices.ContainsFunc(sections, func(m [][]byte) bool { return string(m[1]) == "Container" }) {
			return Quadlet
		}
		return Unit
	}
	keys := strictyaml.Keys(data)
	has := func(key string) bool { return slices.Contains(keys, key) }
	switch {
	case has("pools"):
		return Pools
	case has("services"):
		return Compose
	case has("models"):
		return LlamaSwap
	}
	base := strings.ToLower(filepath.Base(name))
	if begins(data) {
		if imageStep.Match(data) && !strings.Contains(base, "modelfile") {
			return Dockerfile
		}
		return Modelfile
	}
	if strings.HasSuffix(base, ".sh") {
		return Script
	}
	return ""
}

// begins reports whether the first line that says anything is an instruction of a Modelfile, or of a Dockerfile.
func begins(data []byte) bool {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\uFEFF")))
		if len(line) > 0 && line[0] != '#' {
			return instruction.Match(line)
		}
	}
	return false
}
