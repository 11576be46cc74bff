package binary

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// Inspector learns what an executable is by asking it, once per content: llama-server needs 10 ms for its help, but a
// vLLM needs 17 s. What it learns is kept in Dir, or not at all when that is "".
type Inspector struct {
	Dir     string
	Secrets environ.Secrets // of the configuration, which no executable is told that is asked
}

// askTimeout bounds the questions to an executable on the way to a start.
const askTimeout = 60 * time.Second

// Inspect returns the facts about the executable at path.
func (i Inspector) Inspect(ctx context.Context, path string, program engine.Program, env map[string]string) (engine.Binary, error) {
	digest, err := i.digest(path)
	if err != nil {
		return engine.Binary{}, err
	}
	if program.Distribution != "" {
		return i.installed(path, digest, program, env), nil
	}
	return i.Facts(ctx, engine.Binary{Path: path, Digest: digest}, program, env, func(args []string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		return tool.Ask(ctx, path, args, env, i.Secrets)
	})
}

// Facts completes what is known of b by asking it.
func (i Inspector) Facts(
	ctx context.Context, b engine.Binary, program engine.Program, env map[string]string, ask func(args []string) (string, error),
) (engine.Binary, error) {
	key := i.factsKey(b.Digest, program, env)
	var known engine.Binary
	if i.load(key, &known) && known.Digest == b.Digest {
		known.Path = b.Path
		return known, nil
	}
	if program.VersionArgs != nil {
		output, err := ask(program.VersionArgs)
		if err == nil && strings.TrimSpace(output) == "" { // seen once in thousands of questions, at a load of 10
			output, err = ask(program.VersionArgs)
		}
		if err != nil {
			return engine.Binary{}, err
		}
		if b.Version, b.Build, err = program.ParseVersion(output); err != nil {
			return engine.Binary{}, fmt.Errorf("cannot read the version of %q: %w; is it this engine's executable? It said %q", b.Path, err, tail.LastWords(tail.Text(output)))
		}
	}
	if program.HelpArgs != nil {
		output, err := ask(program.HelpArgs)
		if err != nil {
			return engine.Binary{}, err
		}
		b.Flags = program.ParseHelp(output)
	}
	i.store(key, b)
	return b, nil
}

// Forget drops what is known of an executable, because the running engine said otherwise.
func (i Inspector) Forget(digest string, program engine.Program, env map[string]string) {
	if i.Dir != "" {
		_ = os.Remove(i.file(i.factsKey(digest, program, env)))
	}
}

// factsKey names the facts. The environment counts, since LD_LIBRARY_PATH can make one executable another program.
func (i Inspector) factsKey(digest string, program engine.Program, env map[string]string) string {
	h := sha256.New()
	fmt.Fprintf(h, "2\x00%s\x00%q\x00%q\x00", digest, program.VersionArgs, program.HelpArgs)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(h, "%s=%s\x00", name, env[name])
	}
	return "facts-" + hex.EncodeToString(h.Sum(nil))
}

// fingerprint tells whether a file is still the one whose digest was computed: a static llama-server with CUDA is
// hundreds of megabytes, too much to read at every start.
type fingerprint struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	ModTime int64  `json:"mtime_ns"`
	Inode   string `json:"inode"`
	Digest  string `json:"digest"`
}

func (i Inspector) digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the engine's executable: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot read the engine's executable: %w", err)
	}
	now := fingerprint{Path: path, Size: info.Size(), ModTime: info.ModTime().UnixNano(), Inode: filestamp.Inode(f)}
	name := sha256.Sum256([]byte(path))
	key := "digest-" + hex.EncodeToString(name[:])
	var known fingerprint
	if i.load(key, &known) {
		now.Digest = known.Digest
		if now == known {
			return known.Digest, nil
		}
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("cannot read the engine's executable: %w", err)
	}
	now.Digest = hex.EncodeToString(h.Sum(nil))
	i.store(key, now)
	return now.Digest, nil
}

func (i Inspector) file(key string) string { return filepath.Join(i.Dir, key+".json") }

// load and store keep a cache: what cannot be read is learned again, what cannot be written is learned next time.
func (i Inspector) load(key string, into any) bool {
	if i.Dir == "" {
		return false
	}
	data, err := state.Read(i.file(key))
	return err == nil && json.Unmarshal(data, into) == nil
}

func (i Inspector) store(key string, value any) {
	data, err := json.Marshal(value)
	if err == nil && i.Dir != "" && os.MkdirAll(i.Dir, 0o700) == nil {
		_ = atomicfile.Write(i.file(key), data)
	}
}
