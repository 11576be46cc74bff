package provisioner

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// Inspect finds out all that can be known of the executable that cfg asks for, and keeps it in the cache. Start and
// [Plan] do so themselves, but for the flags of a Python program: "vllm serve --help=all" takes 7 to 17 s. They check
// those against what an Inspect before them has found, by the version that is installed, and else leave them to the
// engine.
func Inspect(ctx context.Context, cfg ProvisionConfig, opts ...Option) (engine.Binary, error) {
	p, err := New(cfg, opts...)
	if err != nil {
		return engine.Binary{}, err
	}
	program := programOf(p.engine, p.cfg)
	path, pending, err := p.opts.executable(p.cfg, program).find(ctx)
	if err == nil && pending != "" {
		err = &binaryError{fmt.Errorf("the executable is not there yet: %s; call Prepare first", pending)}
	}
	if err != nil {
		return engine.Binary{}, p.startErrorIn(ctx, err)
	}
	b, err := p.opts.inspector().learn(ctx, path, program, plainEnv(p.cfg))
	if err != nil {
		return engine.Binary{}, p.startErrorIn(ctx, err)
	}
	return b, nil
}

// helpTimeout bounds the question for the flags of a Python program, which no start waits for.
const helpTimeout = 5 * time.Minute

// learn is inspect with the questions that take long.
func (i inspector) learn(ctx context.Context, path string, program engine.Program, env map[string]string) (engine.Binary, error) {
	b, err := i.inspect(ctx, path, program, env)
	if err != nil || program.Distribution == "" || program.HelpArgs == nil || b.Version == "" || len(b.Flags.Defs) > 0 {
		return b, err
	}
	ctx, cancel := context.WithTimeout(ctx, helpTimeout)
	defer cancel()
	output, err := tool.Ask(ctx, path, program.HelpArgs, env)
	if err != nil {
		return engine.Binary{}, err
	}
	b.Flags = program.ParseHelp(output)
	i.store(i.factsKey(b.Digest, program, env), b)
	return b, nil
}

// installed is what is known of a Python program without running it. The few lines of its console script stay the same
// from version to version, so the version is a part of what the digest is of.
func (i inspector) installed(path, digest string, program engine.Program, env map[string]string) engine.Binary {
	b := engine.Binary{Path: path, Version: distributionVersion(path, program.Distribution)}
	b.Build = versionNumber(b.Version)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", digest, program.Distribution, b.Version))
	b.Digest = hex.EncodeToString(sum[:])
	var known engine.Binary
	if b.Version != "" && i.load(i.factsKey(b.Digest, program, env), &known) && known.Digest == b.Digest {
		b.Flags = known.Flags
	}
	return b
}

// distributionVersion reads the version of a Python distribution from the metadata beside its console script; "" when
// there are none, as beside a wrapper.
func distributionVersion(script, distribution string) string {
	// As https://packaging.python.org/en/latest/specifications/binary-distribution-format/ escapes it.
	name := strings.ToLower(strings.NewReplacer("-", "_", ".", "_").Replace(distribution))
	for _, bin := range scriptFolders(script) {
		prefix := escapeGlob(filepath.Dir(bin))
		// Debian has dist-packages and some systems lib64.
		pattern := filepath.Join(prefix, "lib*", "python3*", "*-packages", name+"-*.dist-info", "METADATA")
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			continue
		}
		if version := metadataVersion(found[len(found)-1]); version != "" {
			return version
		}
	}
	return ""
}

// scriptFolders are the folders whose sibling "lib" may hold the script's packages: its own, without links, as "uv tool"
// and pipx make them, and that of the interpreter in its first line, for a script that was copied elsewhere.
func scriptFolders(script string) []string {
	var folders []string
	if target, err := filepath.EvalSymlinks(script); err == nil {
		folders = append(folders, filepath.Dir(target))
	}
	f, err := os.Open(script)
	if err != nil {
		return folders
	}
	defer f.Close()
	start := make([]byte, 512)
	n, _ := f.Read(start)
	line, _, _ := bytes.Cut(start[:n], []byte("\n"))
	if interpreter, ok := strings.CutPrefix(string(line), "#!/"); ok {
		path, _, _ := strings.Cut("/"+interpreter, " ")
		if strings.HasPrefix(filepath.Base(path), "python") {
			folders = append(folders, filepath.Dir(path)) // that of a venv is a link, and is meant
		}
	}
	return folders
}

func metadataVersion(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	// The header of a mail, https://packaging.python.org/en/latest/specifications/core-metadata/; a description follows it.
	header, _ := textproto.NewReader(bufio.NewReader(f)).ReadMIMEHeader()
	return header.Get("Version")
}

// sameVersion compares a version that an executable has with what the running engine says. What stands after "+" tells
// the build, as in "0.32.0+cpu", and not every engine says it.
func sameVersion(a, b string) bool {
	a, buildA, _ := strings.Cut(a, "+")
	b, buildB, _ := strings.Cut(b, "+")
	return a == b && (buildA == buildB || buildA == "" || buildB == "")
}
