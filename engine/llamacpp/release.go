package llamacpp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// release is where the project puts what it has built. Its "latest" release has been one without executables since
// August 2026, and a few of the others have none or only some. That of b11070 has all, with CUDA 12.8 and 13.3 and without.
var release = engine.Release{Repo: "ggml-org/llama.cpp", Tag: releaseTag.Compiled(), Known: "b11070", Pick: pickAssets}

var cudaAsset = lazyregexp.New(`-cuda-([0-9]+)\.([0-9]+)-`)

// pickAssets chooses by the names that release.yml gives: llama-bNNNNN-bin-ubuntu-x64.tar.gz for the CPU (.zip before
// b7224), and with CUDA (since about b10969, Linux) llama-bNNNNN-bin-ubuntu-cuda-12.8-x64.tar.gz with the runtime beside it
// in an archive of its own. Of several versions of CUDA the lowest is taken, which runs with the most drivers.
func pickAssets(tag string, names []string, goos, goarch string, gpu bool) ([]string, error) {
	system := map[string]string{"linux": "ubuntu", "darwin": "macos"}[goos]
	arch := map[string]string{"amd64": "x64", "arm64": "arm64", "s390x": "s390x"}[goarch]
	if system == "" || arch == "" {
		return nil, fmt.Errorf("none of its files is for %s on %s; build it from source", goos, goarch)
	}
	archive := func(name string) string {
		return strings.TrimSuffix(strings.TrimSuffix(name, ".tar.gz"), ".zip")
	}
	if !gpu || goos == "darwin" { // Metal is in every build for it
		want := "llama-" + tag + "-bin-" + system + "-" + arch
		for _, name := range names {
			if archive(name) == want && name != want {
				return []string{name}, nil
			}
		}
		return nil, fmt.Errorf("it has no %s.tar.gz; some builds lack files: take another, such as the one before", want)
	}
	var builds []string
	for _, name := range names {
		if strings.HasPrefix(name, "llama-"+tag+"-bin-"+system+"-cuda-") && strings.HasSuffix(archive(name), "-"+arch) && archive(name) != name {
			builds = append(builds, name)
		}
	}
	if len(builds) == 0 {
		return nil, fmt.Errorf("it has no build with CUDA for %s on %s (since about b10969 there are some); take a newer one, build it "+
			"from source, or set \"gpu: none\"", goos, goarch)
	}
	slices.SortFunc(builds, func(a, b string) int { return cudaVersion(a) - cudaVersion(b) })
	chosen := builds[:1]
	version := cudaAsset.FindString(builds[0])
	for _, name := range names {
		if strings.HasPrefix(name, "cudart-llama-") && strings.Contains(name, system+version) && strings.HasSuffix(archive(name), "-"+arch) {
			return append(chosen, name), nil
		}
	}
	return chosen, nil // the toolkit of the machine must do
}

func cudaVersion(name string) int {
	m := cudaAsset.FindStringSubmatch(name)
	if m == nil {
		return 1 << 30
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major*1000 + minor
}
