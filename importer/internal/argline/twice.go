package argline

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/models"
)

// What a command line says twice, or in a way that only other versions understand. The pool says what the engine would do.

// lastWords leaves out each flag that stands there again: engines take the last one.
func (p *reading) lastWords(flags []flagline.Word) []flagline.Word {
	last := map[string]int{}
	for i, f := range flags {
		if subject := p.subject(f.Name); subject != "" && !f.Stray && !slices.Contains(p.dialect.Repeatable, subject) {
			last[subject] = i
		}
	}
	p.said = last
	var kept []flagline.Word
	for i, f := range flags {
		if at, once := last[p.subject(f.Name)]; once && !f.Stray && at != i {
			p.note(fmt.Sprintf("left out: %s, which %s behind it replaces", f.Name, flags[at].Name))
			continue
		}
		kept = append(kept, f)
	}
	return kept
}

// subject is what a known flag is about; "" for others.
func (p *reading) subject(name string) string {
	def, _, known := p.dialect.LookUp(engine.FlagSet{}, name)
	if !known || p.dialect.Dotted && strings.HasSuffix(name, "+") { // adds to a list
		return ""
	}
	return flagline.Subject(def)
}

// takeVariable takes a variable that a flag has replaced, on the command line or in newer versions. It reports whether
// that is all there is to say of it.
func (p *reading) takeVariable(name, value string) bool {
	if p.dialect == nil {
		return false
	}
	if def, ok := p.envTwin(name); ok {
		_, said := p.said[flagline.Subject(def)]
		if said = said && p.dialect.Advice(def.Names...) != flagline.AdviceToken; said { // the token's flag has become this variable
			p.note(fmt.Sprintf("left out: the variable %s, which %s on the command line replaces", name, def.Names[len(def.Names)-1]))
		}
		return said
	}
	if p.dialect.EnvPrefix == "" || !strings.HasPrefix(name, p.dialect.EnvPrefix) {
		return false
	}
	change, ok := p.dialect.ChangeOfEnv(name, value)
	if ok {
		if _, said := p.said[p.subject(change.Long())]; said {
			p.note(fmt.Sprintf("left out: the variable %s, which %s on the command line replaces", name, change.Long()))
			return true
		}
	}
	switch {
	case !ok:
		p.note(fmt.Sprintf("left out: the variable %s, which %s does not know and ignores", name, p.dialect.Program))
	case change.Values > 0:
		p.flags = append(p.flags, change.Long(), value)
	default:
		p.flags = append(p.flags, change.Long())
	}
	return true
}

// takeHome writes out "~", which a shell would have done; YAML does not.
func (p *reading) takeHome(model string) string {
	for _, f := range p.flags {
		if strings.HasPrefix(f, "~/") {
			p.note(fmt.Sprintf("decide: %q in flags is no path: write the whole one", visible(f)))
		}
	}
	if rest, ok := strings.CutPrefix(model, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return model
}

var hubDownload = lazyregexp.New(`/(resolve|blob)/[^/]+/.`)

// hubFileOf is the reference to a file of the hub by its URL, which needs no checksum; "" for another URL.
func hubFileOf(address string) string {
	if !hubDownload.MatchString(address) {
		return ""
	}
	id, _ := models.OfPage(address) // the error says that it is another URL
	return id
}
