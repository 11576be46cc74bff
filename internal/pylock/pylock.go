// Package pylock reads what Python installers say of a set of packages: pip's report of what it would install, and the
// lock files of pip and uv.
//
// Whoever installs Python packages calls it. It runs nothing and fetches nothing.
package pylock

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// Lock is a set of packages down to the last one.
type Lock struct {
	Name     string // of a file that may hold Text: the installers tell by it how to read it
	Text     string
	Packages int
	Files    []File // of the packages of which something is known
}

// File is what is downloaded for a package.
type File struct {
	URL  string // "" where it is not known
	Size int64  // bytes; 0 where it is not known
}

// report is what "pip install --report" writes: https://pip.pypa.io/en/stable/reference/installation-report/
type report struct {
	Install []struct {
		Download struct {
			URL     string          `json:"url"`
			VCS     json.RawMessage `json:"vcs_info"`
			Dir     json.RawMessage `json:"dir_info"`
			Archive struct {
				Hash   string            `json:"hash"` // before pip 23
				Hashes map[string]string `json:"hashes"`
			} `json:"archive_info"`
		} `json:"download_info"`
		Direct   bool `json:"is_direct"`
		Metadata struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"metadata"`
	} `json:"install"`
}

var (
	namePattern    = lazyregexp.New(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	versionPattern = lazyregexp.New(`^[A-Za-z0-9.!+_-]+$`)
	hashPattern    = lazyregexp.New(`^[0-9a-f]{64}$`)
)

// OfReport makes a lock of pip's report.
func OfReport(data []byte) (Lock, error) {
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		return Lock{}, err
	}
	if len(r.Install) == 0 {
		return Lock{}, errors.New("nothing is to be installed")
	}
	l := Lock{Name: "requirements.txt", Packages: len(r.Install)}
	var lines []string
	for _, p := range r.Install {
		name, version, from := p.Metadata.Name, p.Metadata.Version, p.Download
		if !namePattern.MatchString(name) || !versionPattern.MatchString(version) || strings.ContainsAny(from.URL, " \n\r") {
			return Lock{}, fmt.Errorf("it has a package %q of version %q", name, version)
		}
		line := name + "==" + version
		if p.Direct {
			line = name + " @ " + from.URL
		}
		hash := from.Archive.Hashes["sha256"]
		if hash == "" {
			hash = strings.TrimPrefix(from.Archive.Hash, "sha256=")
		}
		if hashPattern.MatchString(hash) {
			line += " --hash=sha256:" + hash
		}
		lines = append(lines, line)
		l.Files = append(l.Files, file(from.URL))
	}
	slices.Sort(lines) // the order says nothing, and must not make a difference
	l.Text = strings.Join(lines, "\n") + "\n"
	return l, nil
}

// file is what is known of a URL without asking anybody.
func file(raw string) File {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return File{}
	case u.Scheme == "file":
		if info, err := os.Stat(u.Path); err == nil && info.Mode().IsRegular() {
			return File{Size: info.Size()}
		}
		return File{}
	case u.Scheme == "http" || u.Scheme == "https":
		return File{URL: raw}
	}
	return File{}
}

var (
	tomlPackage = lazyregexp.New(`(?m)^\[\[packages\]\]$`)
	tomlFile    = lazyregexp.New(`\{ *(?:url|path) = "([^"]+)"[^{}]*?(?:size = (\d+))?[^{}]*hashes`)
	tomlSize    = lazyregexp.New(`size = (\d+)`)
	requirement = lazyregexp.New(`(?m)^ *[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])? *(==|@)`)
)

// Read takes a lock as it is. Of a pylock.toml, the sizes are read, too.
func Read(name, text string) Lock {
	l := Lock{Name: name, Text: text}
	if !strings.HasSuffix(name, ".toml") {
		l.Packages = len(requirement.FindAllString(text, -1))
		return l
	}
	// No TOML is parsed for what is but a figure: this is how uv writes it.
	blocks := tomlPackage.Split(text, -1)[1:]
	l.Packages = len(blocks)
	for _, block := range blocks {
		var best File
		wheel := false
		for _, m := range tomlFile.FindAllStringSubmatch(block, -1) {
			f := file(m[1])
			if s := tomlSize.FindStringSubmatch(m[0]); s != nil {
				f.Size, _ = strconv.ParseInt(s[1], 10, 64)
			}
			isWheel := strings.HasSuffix(m[1], ".whl")
			switch {
			case !fits(m[1]), wheel && !isWheel: // the source is not what is downloaded
			case isWheel && !wheel, f.Size >= best.Size:
				best, wheel = f, wheel || isWheel
			}
		}
		l.Files = append(l.Files, best)
	}
	return l
}

// fits reports whether a wheel or source archive may be for this machine.
func fits(name string) bool {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if !strings.HasSuffix(name, ".whl") || strings.HasSuffix(name, "-any.whl") {
		return true
	}
	return runtime.GOOS == "linux" && strings.Contains(name, "manylinux") && arch != "" && strings.Contains(name, arch)
}

var collecting = lazyregexp.New(`^(Collecting|Processing) `)

// Installed is how many packages an installation has come to, by pip's output.
func (l Lock) Installed(lines []string) int64 {
	n := int64(0)
	for _, line := range lines {
		if collecting.MatchString(line) {
			n++
		}
	}
	return min(n, int64(l.Packages))
}
