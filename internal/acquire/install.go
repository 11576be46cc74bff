package acquire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/bytesize"
	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/pylock"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

const installLog = "install.log"

// installation is one environment in its entry of the cache.
type installation struct {
	Package
	entry cache.Entry
	with  installer
	lock  pylock.Lock
	tell  Listener
}

func (i installation) make(ctx context.Context, held *os.File) (cache.Manifest, error) {
	log, err := atomicfile.New(i.entry.Path(installLog))
	if err != nil {
		return cache.Manifest{}, i.fail(err)
	}
	defer log.Close()
	if err := i.room(ctx); err != nil {
		return cache.Manifest{}, err
	}
	// What an interrupted installation has left is not gone on with: the installers keep what they have downloaded.
	if err := i.entry.Clear("venv"); err != nil {
		return cache.Manifest{}, i.fail(err)
	}
	lock := i.entry.Path(i.lock.Name)
	if err := atomicfile.Write(lock, []byte(i.lock.Text)); err != nil {
		return cache.Manifest{}, i.fail(err)
	}
	shop := i.shop()
	shop.Log, shop.Lock = log, held
	venv, python := i.entry.Path("venv"), i.entry.Path("venv", "bin", "python")
	done := int64(0)
	stop := shop.Follow(func(string) {
		if n := i.lock.Installed(tail.Lines(log.Name())); n > done {
			done = n
			i.tell.Progress(Progress{Step: StepInstall, What: i.Command, Done: n, Total: int64(i.lock.Packages)})
		}
	})
	defer stop()
	var steps [][]string
	if i.with.uv != "" {
		steps = [][]string{
			{i.with.uv, "venv", "--quiet", "--python", i.with.python, venv},
			slices.Concat([]string{i.with.uv, "pip", "install", "--no-deps", "--python", python}, i.Config.ExtraArgs, []string{"-r", lock}),
		}
	} else {
		steps = [][]string{
			{i.with.python, "-m", "venv", "--without-pip", venv},
			slices.Concat([]string{i.with.python, "-m", "pip", "--python", python, "install", "--no-deps"}, i.Config.ExtraArgs, []string{"-r", lock}),
		}
	}
	for _, step := range steps {
		if err := shop.Run(ctx, step[0], step[1:]...); err != nil {
			return cache.Manifest{}, i.explain(ctx, log.Name(), err)
		}
	}
	command := filepath.Join(venv, "bin", filepath.Base(i.Command))
	if _, err := os.Stat(command); errors.Is(err, fs.ErrNotExist) {
		failed := i.fail(fmt.Errorf("none of the %d packages brings a command %q; add the one that does",
			i.lock.Packages, i.Command))
		failed.Log = log.Name()
		return cache.Manifest{}, failed
	}
	what := fmt.Sprintf("%s with %d packages (%s)", i.Command, i.lock.Packages, i.wanted())
	relative, err := filepath.Rel(i.entry.Dir, command)
	return cache.Manifest{What: what, Executable: relative}, err
}

// room says how much is to come and how much fits, and refuses what certainly does not: an installer holds a package and
// what it unpacks to at once.
func (i installation) room(ctx context.Context) error {
	size, unknown := i.size(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	words := fmt.Sprintf("%s comes with %d packages", i.Command, i.lock.Packages)
	switch {
	case unknown == 0:
		words += fmt.Sprintf(" of %s", bytesize.Decimal(size))
	case size > 0:
		words += fmt.Sprintf(" of at least %s (%d do not tell)", bytesize.Decimal(size), unknown)
	}
	i.tell.Note(fmt.Sprintf("%s; %s are free in the cache", words, bytesize.Decimal(fetch.Free(i.entry.Dir))))
	if err := fetch.EnsureSpace(i.entry.Dir, 2*size); err != nil {
		return i.fail(err)
	}
	return nil
}

// size is that of the packages together, and of how many it is not known.
func (i installation) size(ctx context.Context) (size int64, unknown int) {
	ctx, cancel := context.WithTimeout(ctx, sizePatience)
	defer cancel()
	if len(i.lock.Files) == 0 && !strings.HasSuffix(i.lock.Name, ".toml") { // such a lock has no sizes
		if resolved, err := i.resolve(ctx, i.with, under(i.Dir, i.Config.Lock)); err == nil {
			i.lock.Files = resolved.Files
		}
	}
	sizes := make([]int64, len(i.lock.Files))
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	for n, file := range i.lock.Files {
		if file.Size > 0 || file.URL == "" {
			sizes[n] = file.Size
			continue
		}
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			sizes[n] = fetch.Size(ctx, file.URL)
		})
	}
	all.Wait()
	for _, s := range sizes {
		if s > 0 {
			size += s
		} else {
			unknown++
		}
	}
	return size, unknown + max(0, i.lock.Packages-len(sizes))
}

// sizePatience bounds the questions for sizes, which only serve to tell people: an index that does not answer them may well
// answer the installer.
const sizePatience = 15 * time.Second
