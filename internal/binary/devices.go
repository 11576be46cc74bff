package binary

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// Devices asks an executable which GPUs it can use, and what it says beside them. Both are empty where it can be used without
// one alone, and nil where it cannot tell. machine stands for the GPUs of this node.
//
// An answer with devices is kept until the machine starts anew: a build for CUDA needs a second for it. One without is not: it
// takes milliseconds, and is another once a driver or a backend has been installed.
func (i Inspector) Devices(ctx context.Context, b engine.Binary, program engine.Program, env map[string]string, machine string) ([]engine.GPU, string, error) {
	if len(program.DevicesArgs) == 0 || !slices.ContainsFunc(b.Flags.Defs, func(d engine.FlagDef) bool { return slices.Contains(d.Names, program.DevicesArgs[0]) }) {
		return nil, "", nil
	}
	key := i.devicesKey(b, program, env, machine)
	var known []engine.GPU
	if i.load(key, &known) && len(known) > 0 {
		return known, "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	output, err := tool.Ask(ctx, b.Path, program.DevicesArgs, env, i.Secrets)
	if err != nil {
		return nil, "", err
	}
	listed, words := program.ParseDevices(output)
	if len(listed) > 0 {
		i.store(key, listed)
	}
	return listed, words, nil
}

func (i Inspector) devicesKey(b engine.Binary, program engine.Program, env map[string]string, machine string) string {
	h := sha256.New()
	boot, _ := procfs.BootID()
	fmt.Fprintf(h, "1\x00%s\x00%q\x00%s\x00%s\x00", b.Digest, program.DevicesArgs, boot, machine)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(h, "%s=%s\x00", name, env[name])
	}
	return "devices-" + hex.EncodeToString(h.Sum(nil))
}

// torchFor finds in torch/version.py for what torch was built: "cuda: Optional[str] = '12.9'", or None.
var torchFor = lazyregexp.New(`(?m)^(cuda|hip|xpu)\b[^=\n]*= *['"]`)

// Accelerator tells for which hardware a Python program was built: the local part of its version, such as "cu129" or "cpu", or
// else what torch beside it says, "cuda", "hip", "xpu" or "cpu". It is "" when that cannot be told.
func (i Inspector) Accelerator(b engine.Binary, program engine.Program) string {
	if program.Distribution == "" {
		return ""
	}
	if _, local, ok := strings.Cut(b.Version, "+"); ok && accelerators.MatchString(local) {
		return accelerators.FindString(local)
	}
	for _, bin := range scriptFolders(b.Path) {
		prefix := os.DirFS(filepath.Dir(bin))
		found, err := fs.Glob(prefix, "lib*/python3*/*-packages/torch/version.py")
		if err != nil || len(found) == 0 {
			continue
		}
		text, err := fs.ReadFile(prefix, found[len(found)-1])
		if err != nil {
			continue
		}
		if m := torchFor.FindSubmatch(text); m != nil {
			return string(m[1])
		}
		return "cpu"
	}
	return ""
}

// accelerators are the words of local versions; a build from source has a commit there, too: "g1a2b3c4.cu129".
var accelerators = lazyregexp.New(`\b(cu\d+|rocm\d*|xpu|cpu)`)
