package provisioner

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/exefile"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// inspector learns what an executable is by asking it, once per content: llama-server needs 10 ms for its help, but a
// vLLM needs 17 s. What it learns is kept in dir, or not at all when that is "".
type inspector struct{ dir string }

func (o *options) inspector() inspector {
	if dir := o.cache(); dir != "" {
		return inspector{filepath.Join(dir, "binaries")}
	}
	return inspector{}
}

// askTimeout bounds the questions to an executable on the way to a start.
const askTimeout = 60 * time.Second

// inspect returns the facts about the executable at path.
func (i inspector) inspect(ctx context.Context, path string, program engine.Program, env map[string]string) (engine.Binary, error) {
	digest, err := i.digest(path)
	if err != nil {
		return engine.Binary{}, err
	}
	if program.Distribution != "" {
		return i.installed(path, digest, program, env), nil
	}
	return i.facts(ctx, engine.Binary{Path: path, Digest: digest}, program, env, func(args []string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		return ask(ctx, path, args, env)
	})
}

// facts completes what is known of b by asking it.
func (i inspector) facts(
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
			return engine.Binary{}, fmt.Errorf("cannot read the version of %q: %w; is it this engine's executable? It said %q", b.Path, err, lastWords(cleanLines(output)))
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

// forget drops what is known of an executable, because the running engine said otherwise.
func (i inspector) forget(digest string, program engine.Program, env map[string]string) {
	if i.dir != "" {
		_ = os.Remove(i.file(i.factsKey(digest, program, env)))
	}
}

// factsKey names the facts. The environment counts, since LD_LIBRARY_PATH can make one executable another program.
func (i inspector) factsKey(digest string, program engine.Program, env map[string]string) string {
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

func (i inspector) digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the engine's executable: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot read the engine's executable: %w", err)
	}
	now := fingerprint{Path: path, Size: info.Size(), ModTime: info.ModTime().UnixNano(), Inode: inodeOf(f)}
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

func (i inspector) file(key string) string { return filepath.Join(i.dir, key+".json") }

// load and store keep a cache: what cannot be read is learned again, what cannot be written is learned next time.
func (i inspector) load(key string, into any) bool {
	if i.dir == "" {
		return false
	}
	data, err := state.Read(i.file(key))
	return err == nil && json.Unmarshal(data, into) == nil
}

func (i inspector) store(key string, value any) {
	data, err := json.Marshal(value)
	if err == nil && i.dir != "" && os.MkdirAll(i.dir, 0o700) == nil {
		_ = atomicfile.Write(i.file(key), data)
	}
}

// ask runs the executable with args and returns what it prints on both streams. A wrapper may start processes of its
// own, which go with the question, also when it took too long; they are found like those of a launch.
func ask(ctx context.Context, path string, args []string, env map[string]string) (string, error) {
	var environ []string
	// os.DevNull is no folder, so no configuration file is found below it.
	all := map[string]string{"XDG_CONFIG_HOME": os.DevNull}
	maps.Copy(all, hostEnvironment())
	maps.Copy(all, env)
	for name, value := range all {
		environ = append(environ, name+"="+value)
	}
	var out limitedBuffer
	began := time.Now()
	err := endingTree(func(mark string) error {
		return runInto(ctx, &out, func() *exec.Cmd {
			cmd := exec.Command(path, args...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for this program
			cmd.Env = append(slices.Clone(environ), proc.MarkEnv+"="+mark)
			return cmd
		})
	})
	if err != nil {
		return "", &askError{
			args:    strings.Join(append([]string{path}, args...), " "),
			lines:   tail.Last(cleanLines(out.String())),
			err:     errors.Join(context.Cause(ctx), err),
			problem: execProblem(path, err),
			took:    time.Since(began),
		}
	}
	return out.String(), nil
}

// askError says that an executable could not even tell its version; its words tell why.
type askError struct {
	args    string
	lines   []string
	err     error
	problem string // why it cannot be run at all; "" where nobody sees that
	took    time.Duration
}

// deaf reports whether the executable never answered.
func (e *askError) deaf() bool { return errors.Is(e.err, context.DeadlineExceeded) }

func (e *askError) Error() string {
	switch words := lastWords(e.lines); {
	case e.problem != "":
		return fmt.Sprintf("cannot run %q: %s", e.args, e.problem)
	case e.deaf() && words != "":
		return fmt.Sprintf("%q did not answer within %s: %q", e.args, e.took.Round(time.Second), words)
	case e.deaf():
		return fmt.Sprintf("%q did not answer within %s", e.args, e.took.Round(time.Second))
	}
	if words := lastWords(e.lines); words != "" {
		return fmt.Sprintf("cannot run %q: %v: %q", e.args, e.err, words)
	}
	return fmt.Sprintf("cannot run %q: %v", e.args, e.err)
}
func (e *askError) Unwrap() error { return e.err }

// execProblem says why a program could not be started, where the kernel's word for it does not.
func execProblem(path string, err error) string {
	for _, errno := range []syscall.Errno{syscall.ENOEXEC, syscall.ENOENT} {
		if errors.Is(err, errno) {
			return exefile.Problem(path)
		}
	}
	if errors.Is(err, syscall.EACCES) {
		return cmp.Or(access.Denied(path, "execute"), "permission denied, though its mode allows it; see whether its file system is mounted noexec")
	}
	return ""
}

func cleanLines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = tail.Clean(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// runInto runs a command and copies what it prints until it ends. The end of the pipe is not waited for, since a child of the
// executable may hold it open; and os/exec's WaitDelay would cut a help short where a busy machine reads it late.
func runInto(ctx context.Context, out *limitedBuffer, build func() *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	var cmd *exec.Cmd
	err = proc.StartFresh(func() error {
		cmd = build()
		cmd.Stdout, cmd.Stderr = w, w
		return proc.Start(cmd)
	})
	w.Close()
	if err != nil {
		return err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(out, r) // to its end, or to the deadline
	}()
	err = proc.Wait(ctx, cmd)
	_ = r.SetReadDeadline(time.Now())
	<-copied
	readRest(out, r)
	return err
}

// readRest copies what is in the pipe now: all that a process printed which has ended.
func readRest(out *limitedBuffer, pipe *os.File) {
	_ = pipe.SetReadDeadline(time.Time{})
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		buf := make([]byte, 64<<10)
		for range 64 { // more than a pipe holds, should a child go on printing
			n, err := syscall.Read(int(fd), buf)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if n <= 0 {
				break
			}
			_, _ = out.Write(buf[:n])
		}
		return true
	})
}

// limitedBuffer keeps the first MiB; a help is 155 kB at most (vLLM). The buffer is not embedded: its ReadFrom, which
// io.Copy prefers, knows no limit.
type limitedBuffer struct{ buf bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	const limit = 1 << 20
	if room := limit - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

func (b *limitedBuffer) String() string { return b.buf.String() }
