package config

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cmake"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
	"github.com/llama-orch/engine-provisioner/settings"
)

// ModeContainer is the mode in which an engine runs in a container.
const ModeContainer = "container"

// Modes are those of this build.
func Modes() []string { return []string{"binary", "source", "package", ModeContainer} }

// ModesOf are those that suit a program.
func ModesOf(p engine.Program) []string {
	if p.Modes != nil {
		return slices.Clone(p.Modes)
	}
	return Modes()
}

// whyNotMode says what a mode is good for, where it does not suit an engine.
var whyNotMode = map[string]string{
	"source":  ", which is not a CMake project",
	"package": ", which is in no Python package",
}

// Provisioning checks where the executable of an engine comes from.
func (k *Checker) Provisioning(key string, c settings.Provisioning, engine string, program engine.Program) {
	mode := cmp.Or(c.Mode, "binary")
	suits := ModesOf(program)
	if slices.Contains(Modes(), mode) && !slices.Contains(suits, mode) {
		k.Report(key+".mode", `%q cannot provide %s%s; write %s`, mode, engine, whyNotMode[mode], strictyaml.Or(suits))
		return
	}
	for _, block := range []struct {
		name   string
		there  bool
		needed bool
	}{
		{"binary", c.Binary != nil, false},
		{"source", c.Source != nil, true},
		{"package", c.Package != nil, true},
		{ModeContainer, c.Container != nil, false},
	} {
		at := key + "." + block.name
		switch {
		case block.there && c.Mode == "" && block.name != mode:
			k.Report(at, "belongs to mode %q; write \"mode: %s\", too", block.name, block.name)
		case block.there && block.name != mode:
			k.Report(at, "belongs to mode %q, and the mode is %q; remove one of the two", block.name, mode)
		case !block.there && block.needed && block.name == mode && !k.UnreadIn(at):
			k.Report(at, "is missing; mode %q needs it", mode)
		}
	}
	if c.Binary != nil {
		k.binary(key+".binary", *c.Binary, program)
	}
	if c.Source != nil {
		k.source(key+".source", *c.Source)
	}
	if c.Package != nil {
		k.pythonPackage(key+".package", *c.Package)
	}
}

func (k *Checker) binary(key string, c settings.Binary, program engine.Program) {
	k.download(key, c, program)
	key += ".path"
	switch path := c.Path; {
	case path == "" && c.Release == "" && k.Written(key):
		k.Report(key, "is empty; write the executable's path, or remove the key to look for the usual name in PATH")
	case path != "":
		if wrong := keys.BadExecutable(path); wrong != "" {
			k.Report(key, "%s", wrong)
		}
	}
}

// RefPattern is what tags, branches, commits and targets look like.
const RefPattern = `^[A-Za-z0-9_][A-Za-z0-9_./+@-]*$`

var refPattern = lazyregexp.New(RefPattern)

// source checks the block of a pools file.
func (k *Checker) source(key string, c settings.Source) {
	switch repo := c.Repo; {
	case repo == "":
	case strings.ContainsRune(repo, 0):
		k.Report(key+".repo", "holds a NUL character; remove it")
	case strings.HasPrefix(repo, "-") || strings.HasPrefix(repo, "~"):
		k.Report(key+".repo", "is %q; write a URL, or a path from %q or %q on", repo, "/", "./")
	default:
		if wrong := badRepo(repo); wrong != "" {
			k.Report(key+".repo", "%s", wrong)
		}
	}
	if c.Ref != "" && (!refPattern.MatchString(c.Ref) || strings.Contains(c.Ref, "..") || len(c.Ref) > 200) {
		k.Report(key+".ref", "is %q, which is no tag, branch or commit", c.Ref)
	}
	before := ""
	for i, flag := range c.CMakeFlags {
		if wrong := cmake.Check(before, flag); wrong != "" {
			k.Report(fmt.Sprintf("%s.cmake_flags[%d]", key, i), "%s", wrong)
		}
		before = flag
	}
	for i, target := range c.Targets {
		if !refPattern.MatchString(target) {
			k.Report(fmt.Sprintf("%s.targets[%d]", key, i), "is %q, which is no name of a target", target)
		}
	}
	if c.Jobs == 0 && k.Written(key+".jobs") {
		k.Report(key+".jobs", "must be from 1 to 1024, is 0; leave the key out for the default")
	}
}

func badRepo(repo string) string {
	if !strings.Contains(repo, "://") {
		return ""
	}
	u, err := url.Parse(repo)
	if err != nil {
		return "is no URL that can be read" // its text may hold a secret
	}
	if wrong := redact.InURL(repo); wrong != "" {
		return "holds " + wrong + "; remove it, and give git a credential helper instead"
	}
	switch {
	case u.Scheme == "https", u.Scheme == "ssh", u.Scheme == "file":
		return ""
	}
	return fmt.Sprintf("is a URL of %q; write one of https or ssh, or a path", u.Scheme)
}

// download checks the keys of an executable that is not on the node yet.
func (k *Checker) download(key string, c settings.Binary, program engine.Program) {
	ways := 0
	for _, way := range []string{c.Path, c.URL, c.Release} {
		if way != "" {
			ways++
		}
	}
	switch {
	case ways > 1:
		k.Report(key, "says twice where the executable comes from; keep one of path, url and release")
	case c.URL == "" && c.Release == "" && c.SHA256 != "":
		k.Report(key+".sha256", "belongs to a download; remove it, or write \"url\" or \"release\"")
	case c.URL == "" && c.Release == "" && c.Strip != 0:
		k.Report(key+".strip", "belongs to a download; remove it, or write \"url\" or \"release\"")
	case c.URL != "" && c.SHA256 == "":
		k.Report(key+".sha256", "is missing; what comes from a URL must be known by its checksum (sha256sum prints it)")
	}
	if c.SHA256 != "" && !sha256Text.MatchString(c.SHA256) {
		k.Report(key+".sha256", "is no sha256, which has 64 hexadecimal digits")
	}
	if c.URL != "" {
		address := c.URL
		if redact.Signed(address) { // for a time: an object store knows no other way, and what is told of it hides that
			address, _, _ = strings.Cut(address, "?")
		}
		switch err := fetch.CheckURL(c.URL); {
		case redact.InURL(address) != "":
			k.Report(key+".url", "holds %s; remove it", redact.InURL(address))
		case err != nil:
			k.Report(key+".url", "%v", err)
		}
	}
	if c.Release != "" {
		switch r := program.Release; {
		case r == nil:
			k.Report(key+".release", "is not known for this engine; write \"url\" and \"sha256\"")
		case !r.Tag.MatchString(c.Release):
			k.Report(key+".release", "is %q, which is no tag of a release of %s with executables; they match %s", c.Release, r.Repo, r.Tag)
		}
	}
}

// installerOwned are arguments that would install elsewhere or something else.
var installerOwned = []string{
	"--target", "--prefix", "--root", "--user", "--system", "--python", "--requirement", "--requirements", "--dry-run", "--report",
	"--output-file", "--format", "--upgrade", "--editable",
}

// shortOwned are the same in short, whatever follows. They may stand behind others that take no value.
var shortOwned = lazyregexp.New(`^-[qvIhVn]*[tproUe]`)

// ownedByUs reports whether an argument is one of installerOwned, or what pip takes for one: it knows a flag by its beginning.
func ownedByUs(name string) bool {
	return name != "--pre" && strings.HasPrefix(name, "--") &&
		slices.ContainsFunc(installerOwned, func(owned string) bool { return strings.HasPrefix(owned, name) })
}

// endsLine reports whether a character ends a line for some reader of requirements; Python knows ten of them.
func endsLine(r rune) bool {
	return unicode.IsControl(r) && r != '\t' || r == '\u2028' || r == '\u2029'
}

func (k *Checker) pythonPackage(key string, c settings.Package) {
	switch {
	case k.UnreadIn(key):
	case len(c.Requirements) == 0 && c.Lock == "":
		k.Report(key, "says nothing to install; write \"requirements\" or \"lock\"")
	case len(c.Requirements) > 0 && c.Lock != "":
		k.Report(key+".lock", "stands beside \"requirements\"; keep one of the two")
	}
	for i, r := range c.Requirements {
		at := fmt.Sprintf("%s.requirements[%d]", key, i)
		switch {
		case strings.TrimSpace(r) == "" || strings.ContainsFunc(r, endsLine) || strings.HasSuffix(r, "\\"):
			k.Report(at, "is no requirement; write one, such as \"vllm==0.32.0\"")
		case redact.InURL(r) != "":
			k.Report(at, "holds %s; remove it, and use a netrc file or a keyring", redact.InURL(r))
		case slices.ContainsFunc(strings.Fields(r), func(word string) bool { return strings.HasPrefix(word, "-") }):
			k.Report(at, "is %q; arguments of the installer belong into \"extra_args\"", r)
		case strings.Contains(r, "${"):
			k.Report(at, "is %q, and an installer may put a variable there; write what is meant", r)
		}
	}
	for i, arg := range c.ExtraArgs {
		at := fmt.Sprintf("%s.extra_args[%d]", key, i)
		name, _, _ := strings.Cut(arg, "=")
		switch {
		case arg == "" || strings.ContainsRune(arg, 0):
			k.Report(at, "is empty or holds a NUL character; remove it")
		case redact.InURL(arg) != "":
			k.Report(at, "holds %s; remove it, and use a netrc file, a keyring, or a variable of the installer", redact.InURL(arg))
		case ownedByUs(name), shortOwned.MatchString(arg):
			k.Report(at, "is %q, which is decided for you; remove it", arg)
		}
	}
	for _, path := range []struct{ key, value string }{{key + ".lock", c.Lock}, {key + ".python", c.Python}} {
		switch {
		case strings.ContainsRune(path.value, 0):
			k.Report(path.key, "holds a NUL character; remove it")
		case strings.HasPrefix(path.value, "-"):
			k.Report(path.key, "is %q; write a path", path.value)
		}
	}
}
