package acquire

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/unpack"
)

// Download is an executable that is downloaded: from a URL, or out of a release. What it is is known by its
// checksum before anything of it is unpacked or run.
type Download struct {
	Cache   cache.Cache
	Config  BinaryConfig
	Command string          // the engine's usual executable
	Release *engine.Release // where the engine is published; nil where that is not known
	GPU     bool            // it is to use one
	API     string          // that releases are looked up with; "" is GitHub's
	Limits  fetch.Limits
}

// asset is one file to download.
type asset struct {
	name   string // at its source; in the cache.Entry, see file
	url    string
	size   int64 // 0 where it is not known
	digest fetch.Digest
}

// file is its name in an entry, where it must not be in the way of anything.
func (a asset) file() string { return "download-" + a.name }

// maxEngineSize is far above the largest: llama.cpp with its CUDA runtime has 0.8 GB.
const maxEngineSize = 32 << 30

func (d Download) fail(err error) *Error {
	return &Error{What: "cannot get " + d.command(), Err: err}
}

// command is the name of the executable.
func (d Download) command() string { return filepath.Base(d.Command) }

// from is where it comes from, for people.
func (d Download) from() string {
	if d.Config.Release != "" {
		return fmt.Sprintf("release %s of %s", d.Config.Release, d.Release.Repo)
	}
	return fetch.Redact(d.Config.URL)
}

func (d Download) memory() string {
	return cache.Hash("download", d.Config, d.Command, runtime.GOOS, runtime.GOARCH, !d.GPU)
}

// known is the executable of an earlier download. A release does not change, so nobody is asked again.
func (d Download) known() string {
	e, _, ok := d.Cache.Last("download", d.memory())
	if !ok {
		return ""
	}
	path := e.Executable()
	if path != "" {
		e.Used()
	}
	return path
}

// Find finds what was downloaded before.
func (d Download) Find(context.Context) (path, pending string, err error) {
	if path = d.known(); path != "" {
		return path, "", nil
	}
	return "", fmt.Sprintf("download %s from %s", d.command(), d.from()), nil
}

// Get downloads it, unless that was done before.
func (d Download) Get(ctx context.Context, tell Listener) (string, error) {
	if path := d.known(); path != "" {
		return path, nil
	}
	assets, err := d.assets(ctx)
	if err != nil {
		return "", d.explain(ctx, err)
	}
	parts := []any{1, d.Config.Strip, d.command()}
	for _, a := range assets {
		parts = append(parts, a.digest)
	}
	e, err := d.Cache.Entry("download", cache.Hash(parts...))
	if err != nil {
		return "", d.fail(err)
	}
	path, err := e.Get(ctx, watcher(Progress{Step: StepDownload, What: assets[0].name}, tell), func(*os.File) (cache.Manifest, error) { return d.make(ctx, e, assets, tell) })
	if err != nil {
		return "", d.explain(ctx, err)
	}
	d.Cache.Remember("download", d.memory(), e, "")
	return path, nil
}

// explain tells what can be better next time from what cannot.
func (d Download) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	failed := d.fail(err)
	var status *fetch.StatusError
	var digest *fetch.DigestError
	var archive *archiveError
	switch {
	case errors.As(err, &digest), errors.As(err, &archive), errors.Is(err, errNoExecutable), errors.Is(err, errNoAsset):
	case errors.As(err, &status) && status.Code < 500 && status.Code != http.StatusTooManyRequests:
	default:
		failed.Retry = true
	}
	return failed
}

// archiveError says that an archive is not what it should be.
type archiveError struct {
	name string
	err  error
}

func (e *archiveError) Error() string { return fmt.Sprintf("cannot unpack %q: %v", e.name, e.err) }
func (e *archiveError) Unwrap() error { return e.err }

func (d Download) make(ctx context.Context, e cache.Entry, assets []asset, tell Listener) (cache.Manifest, error) {
	if err := e.Clear("files", "more"); err != nil {
		return cache.Manifest{}, err
	}
	for _, a := range assets {
		err := fetch.Download(ctx, fetch.File{
			URL: a.url, Path: e.Path(a.file()), Digest: a.digest, Size: a.size, MaxSize: maxEngineSize, Limits: d.Limits,
			Progress: func(p fetch.Progress) {
				now := Progress{Step: StepDownload, What: a.name, Done: p.Done, Total: p.Total, Rate: p.Rate, Waiting: p.Waiting}
				now.Remaining = p.Remaining().Seconds()
				tell.Progress(now)
			},
		})
		if err != nil {
			return cache.Manifest{}, err
		}
	}
	executable := ""
	for i, a := range assets {
		tell.Progress(Progress{Step: StepUnpack, What: a.name})
		into := "files"
		if i > 0 {
			into = "more"
		}
		if err := d.unpack(ctx, e, a, into); err != nil {
			return cache.Manifest{}, err
		}
		if i > 0 { // what runs the executable is found beside it
			if err := beside(e.Path(into), filepath.Dir(executable)); err != nil {
				return cache.Manifest{}, err
			}
			continue
		}
		var err error
		if executable, err = findExecutable(e.Path(into), d.command()); err != nil {
			return cache.Manifest{}, fmt.Errorf("%w in %q; is it for another engine, or without the permissions of its files?", err, a.name)
		}
	}
	for _, a := range assets {
		if err := e.Clear(a.file(), a.file()+".lock"); err != nil {
			return cache.Manifest{}, err
		}
	}
	relative, err := filepath.Rel(e.Dir, executable)
	return cache.Manifest{What: fmt.Sprintf("%s from %s", d.command(), d.from()), Executable: relative}, errors.Join(err, e.Clear("more"))
}

// unpack brings what was downloaded to light: an archive, or the executable itself.
func (d Download) unpack(ctx context.Context, e cache.Entry, a asset, into string) error {
	if err := os.Mkdir(e.Path(into), 0o700); err != nil {
		return err
	}
	f, err := os.Open(e.Path(a.file()))
	if err != nil {
		return err
	}
	defer f.Close()
	var magic [4]byte
	_, _ = f.ReadAt(magic[:], 0)
	if string(magic[:]) == "\x7fELF" || magic[0] == '#' && magic[1] == '!' {
		return copyProgram(f, e.Path(into, d.command()))
	}
	err = unpack.Archive(ctx, e.Path(a.file()), e.Path(into), unpack.Options{Strip: d.Config.Strip})
	if err != nil && ctx.Err() == nil {
		return &archiveError{a.name, err}
	}
	return err
}

func copyProgram(from *os.File, to string) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = f.ReadFrom(from)
	return errors.Join(err, f.Close())
}

// beside moves the libraries below from into the folder of the executable, where its loader looks.
func beside(from, dir string) error {
	return filepath.WalkDir(from, func(file string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(entry.Name(), ".so") && !strings.HasSuffix(entry.Name(), ".dylib") {
			return err
		}
		to := filepath.Join(dir, entry.Name())
		if _, err := os.Lstat(to); err == nil {
			return nil // the engine's own wins
		}
		return os.Rename(file, to)
	})
}

// assets are the files to download, the one with the executable first.
func (d Download) assets(ctx context.Context) ([]asset, error) {
	if d.Config.Release != "" {
		return d.released(ctx)
	}
	name := d.command()
	if u, err := url.Parse(d.Config.URL); err == nil {
		if base := path.Base(u.Path); base != "/" && base != "." {
			name = base
		}
	}
	return []asset{{name: name, url: d.Config.URL, digest: fetch.SHA256(d.Config.SHA256)}}, nil
}

var errNoAsset = errors.New("no such file")

// released looks a release up. Of the whole answer, only the checksums must be believed, and they come by https.
func (d Download) released(ctx context.Context) ([]asset, error) {
	r := d.Release
	from := fmt.Sprintf("%s/repos/%s/releases/tags/%s", cmp.Or(d.API, "https://api.github.com"), r.Repo, d.Config.Release)
	token := cmp.Or(os.Getenv("GITHUB_TOKEN"), os.Getenv("GH_TOKEN")) // only for the number of questions that one may ask
	data, err := fetch.Get(ctx, from, token, 16<<20)
	var status *fetch.StatusError
	switch {
	case errors.As(err, &status) && status.Code == http.StatusNotFound:
		return nil, fmt.Errorf("%s has no release %q: %w", r.Repo, d.Config.Release, err)
	case errors.As(err, &status) && status.Code == http.StatusForbidden:
		failed := d.fail(fmt.Errorf("%w; without a GITHUB_TOKEN only a few releases an hour can be looked up", err))
		failed.Retry = true
		return nil, failed
	case err != nil:
		return nil, err
	}
	var release struct {
		Assets []struct {
			Name   string `json:"name"`
			URL    string `json:"browser_download_url"`
			Size   int64  `json:"size"`
			Digest string `json:"digest"`
		} `json:"assets"`
	}
	if err := json.Unmarshal(data, &release); err != nil {
		return nil, fmt.Errorf("cannot read the release: %w", err)
	}
	names := make([]string, len(release.Assets))
	for i, a := range release.Assets {
		names[i] = a.Name
	}
	chosen, err := r.Pick(d.Config.Release, names, runtime.GOOS, runtime.GOARCH, d.GPU)
	if err != nil {
		return nil, fmt.Errorf("%w: release %s of %s: %w", errNoAsset, d.Config.Release, r.Repo, err)
	}
	var assets []asset
	for _, name := range chosen {
		found := release.Assets[slices.Index(names, name)]
		a := asset{name: filepath.Base(found.Name), url: found.URL, size: found.Size, digest: fetch.Digest(found.Digest)}
		if len(assets) == 0 && d.Config.SHA256 != "" {
			a.digest = fetch.SHA256(d.Config.SHA256)
		}
		if a.digest == "" {
			return nil, fmt.Errorf("%w: release %s tells no checksum of %s; write its \"sha256\"", errNoAsset, d.Config.Release, name)
		}
		assets = append(assets, a)
	}
	return assets, nil
}
