package binary

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/tool"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

// helpTimeout bounds the question for the flags of a Python program, which no start waits for.
const helpTimeout = 5 * time.Minute

// Learn is Inspect with the questions that take long.
func (i Inspector) Learn(ctx context.Context, path string, program engine.Program, env map[string]string) (engine.Binary, error) {
	b, err := i.Inspect(ctx, path, program, env)
	if err != nil || program.Distribution == "" || program.HelpArgs == nil || b.Version == "" || len(b.Flags.Defs) > 0 {
		return b, err
	}
	ctx, cancel := context.WithTimeout(ctx, helpTimeout)
	defer cancel()
	output, err := tool.Ask(ctx, path, program.HelpArgs, env, i.Secrets)
	if err != nil {
		return engine.Binary{}, err
	}
	b.Flags = program.ParseHelp(output)
	i.store(i.factsKey(b.Digest, program, env), b)
	return b, nil
}

// installed is what is known of a Python program without running it. The few lines of its console script stay the same
// from version to version, so the version is a part of what the digest is of.
func (i Inspector) installed(path, digest string, program engine.Program, env map[string]string) engine.Binary {
	b := engine.Binary{Path: path, Version: distributionVersion(path, program.Distribution)}
	b.Build = version.Number(b.Version)
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
		prefix := os.DirFS(filepath.Dir(bin))
		// Debian has dist-packages and some systems lib64.
		found, err := fs.Glob(prefix, "lib*/python3*/*-packages/"+name+"-*.dist-info/METADATA")
		if err != nil || len(found) == 0 {
			continue
		}
		if v := metadataVersion(prefix, found[len(found)-1]); v != "" {
			return v
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
	defer func() { _ = f.Close() }()
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

func metadataVersion(prefix fs.FS, path string) string {
	f, err := prefix.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // what was only read loses nothing
	// The header of a mail, https://packaging.python.org/en/latest/specifications/core-metadata/; a description follows it.
	header, _ := textproto.NewReader(bufio.NewReader(f)).ReadMIMEHeader()
	return header.Get("Version")
}
