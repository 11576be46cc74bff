// Package environ says which variables of this program's environment go on to the programs that it starts: to engines, to
// hooks, and to the tools that build and install engines. Each gets what is on a list, and nothing that looks like a secret but
// its own.
//
// Whoever starts programs calls it. It reads the environment when it is asked, and never changes it.
package environ

import (
	"cmp"
	"os"
	"slices"
	"strings"
)

// everywhere is what any program gets: where it is at home, which language it speaks, and how it gets into the network.
var everywhere = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "XDG_CACHE_HOME", "XDG_DATA_HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
	"LD_LIBRARY_PATH",
}

// engines are what engines get beside that. LLAMA_ARG_* and VLLM_* stay behind, since they would change what is run, and so does
// what is this program's own (managers).
var engines = []string{
	"CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*", "ROCM_*", "HSA_*", "ONEAPI*", "ZE_*", "ZES_*", "SYCL_*", "VK_ICD_FILENAMES", "VK_DRIVER_FILES",
	"NCCL_*", "RCCL_*", "GLOO_*", "UCX_*", "HF_*", "OMP_*", "KMP_*", "GOMP_*", "MKL_*", "OPENBLAS_*",
}

// notEngines are the exceptions: what they say is said by devices and gpu, or would be a flag of TGI.
var notEngines = []string{
	"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR",
	"ZE_AFFINITY_MASK", "ZE_ENABLE_PCI_ID_DEVICE_ORDER", "CUDA_GRAPHS", "CUDA_MEMORY_FRACTION",
}

// HubTokens are the variables with tokens of the Hugging Face hub.
func HubTokens() []string { return []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} }

// hub are these tokens, and whether they are sent unasked, for who fetches from it.
var hub = append(HubTokens(), "HF_HUB_DISABLE_IMPLICIT_TOKEN")

// hubAddress is what a container gets of who fetches from the hub: its image has an environment of its own, and paths of this
// host mean nothing in it.
var hubAddress = []string{"HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT", "*_PROXY", "*_proxy"}

// secretWords are parts of the names of secrets, between underscores.
var secretWords = []string{
	"TOKEN", "TOKENS", "KEY", "KEYS", "SECRET", "SECRETS", "PASSWORD", "PASSWORDS", "PASSWD", "PWD", "PASS", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS",
	"AUTH", "AUTHORIZATION", "PAT", "DSN",
}

// secretEnds are what such a part may end with.
var secretEnds = []string{"*APIKEY", "*TOKEN", "*SECRET", "*PASSWORD", "*PASSWD"}

// places are how the names of variables end that say where a secret is, and not what it is.
var places = []string{"*_PATH", "*_FILE", "*_DIR", "*_ROOT"}

// Secret reports whether a variable is a secret, by its name. No list lets it through that does not name it in full.
func Secret(name string) bool {
	name = strings.ToUpper(name)
	return !Match(places, name) && slices.ContainsFunc(strings.Split(name, "_"), func(part string) bool {
		return slices.Contains(secretWords, part) || Match(secretEnds, part)
	})
}

// Secrets are names of variables from which a configuration reads secrets. What they hold is for whom the configuration names:
// like a secret by its name, no one else gets it because of a pattern.
type Secrets []string

// free reports whether a variable is on one of the lists, in full, or by a pattern and is no secret of the configuration.
func (s Secrets) free(name string, lists ...[]string) bool {
	for _, list := range lists {
		if slices.Contains(list, name) || Match(list, name) && !slices.Contains(s, name) {
			return true
		}
	}
	return false
}

// For is what an engine is started for, as far as that decides what it gets.
type For struct {
	Hub       bool // it fetches from the Hugging Face hub by itself
	Contained bool // in a container

	Secrets Secrets // of the configuration that it is of
}

// Engine is what an engine gets.
func Engine(purpose For) map[string]string {
	env := map[string]string{}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		passes := purpose.Secrets.free(name, everywhere, engines) && !Match(notEngines, name) && !Secret(name)
		if purpose.Contained {
			passes = purpose.Hub && purpose.Secrets.free(name, hubAddress)
		}
		if passes || purpose.Hub && Match(hub, name) {
			env[name] = value
		}
	}
	aroundLoopback(env)
	return env
}

// aroundLoopback keeps what an engine asks itself, such as SGLang when it warms up, from a proxy.
func aroundLoopback(env map[string]string) {
	proxied := false
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"} {
		proxied = proxied || env[name] != ""
	}
	if !proxied {
		return
	}
	direct := strings.Split(cmp.Or(env["no_proxy"], env["NO_PROXY"]), ",")
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		if !slices.Contains(direct, host) && !slices.Contains(direct, "*") {
			direct = append(direct, host)
		}
	}
	// Some programs heed the one, some the other.
	env["no_proxy"] = strings.Trim(strings.Join(direct, ","), ",")
	env["NO_PROXY"] = env["no_proxy"]
}

// Matching is what this program has of the variables that are one of the patterns of [Match].
func Matching(patterns []string) map[string]string {
	env := map[string]string{}
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); Match(patterns, name) {
			env[name] = value
		}
	}
	return env
}

// Hook is what a hook gets.
func Hook(secrets Secrets) map[string]string { return Engine(For{Secrets: secrets}) }

// told are names of variables that engines and what they are made of would heed.
var told = []string{
	"LLAMA_*", "GGML_*", "VLLM_*", "SGLANG_*", "SGL_*", "TORCH*", "PYTORCH_*", "TRITON_*", "TRANSFORMERS_*", "TOKENIZERS_*",
	"FLASHINFER_*", "RAY_*", "HUGGING*", "HF_*", "OLLAMA_*", "MODELSCOPE_*", "RUNAI_*", "AWS_*",
	"CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*", "GPU_DEVICE_ORDINAL", "ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK", "PYTHONPATH", "PYTHONHOME", "LD_PRELOAD", "LD_LIBRARY_PATH",
	"MALLOC_*",
}

// LeftBehind names the variables, in order, that are set here, that engines would heed, and that are not passed on.
func LeftBehind(passed func(name string) bool) []string {
	var left []string
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); Match(told, name) && !passed(name) {
			left = append(left, name)
		}
	}
	slices.Sort(left)
	return left
}

// Tool is a kind of program that gets an engine onto this host.
type Tool int

// The kinds.
const (
	Git     Tool = iota // fetches sources
	Build               // cmake, and the compilers that it runs
	Install             // pip and uv, and the builds that they run
)

// dirs are where tools look for what is theirs.
var dirs = []string{"TMPDIR", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"}

// ways is how git gets to a server: by ssh and its agent, with the user's settings.
var ways = []string{
	"SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_SSL_*", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM",
	"GIT_CONFIG_NOSYSTEM", "GIT_ALLOW_PROTOCOL", "GIT_PROTOCOL", "GIT_PROXY_COMMAND", "GIT_HTTP_*",
}

// makers are variables that compilers and CMake heed. MAKEFLAGS and DESTDIR are not among them: they are of a make around us,
// and would change where things go; nor is what a Python around us has set.
var makers = []string{
	"CC", "CXX", "FC", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "ASMFLAGS", "CUDACXX", "CUDAFLAGS", "CUDAHOSTCXX", "HIPCXX", "HIPFLAGS",
	"CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "PKG_CONFIG*", "CMAKE_*", "NINJA_STATUS",
	"CUDA_*", "CUDAToolkit_ROOT", "NVCC_*", "HIP_*", "ROCM_*", "HSA_*", "ONEAPI*", "MKLROOT", "TBBROOT", "CMPLR_ROOT", "VULKAN_SDK",
	"CCACHE_*", "SCCACHE_*", "SDKROOT", "NIX_*", "SOURCE_DATE_EPOCH", "CARGO_HOME", "RUSTUP_HOME", "RUSTFLAGS", "*_ROOT", "*_DIR",
}

// notMakers are the exceptions: of a hook of git's around us.
var notMakers = []string{"GIT_*"}

// installers are what pip and uv are told, the passwords of their indexes among it.
var installers = []string{"PIP_*", "UV_*", "NETRC"}

// notInstallers are the exceptions: what uploads packages.
var notInstallers = []string{"UV_PUBLISH_*"}

// gitSettings are settings that the environment brings to git, with what a server asks for.
var gitSettings = []string{"GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_*", "GIT_CONFIG_VALUE_*"}

// Tools is what a tool gets, as "NAME=value".
func Tools(kind Tool, secrets Secrets) []string {
	var env []string
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); goesTo(kind, name, secrets) {
			env = append(env, entry)
		}
	}
	return env
}

func goesTo(kind Tool, name string, secrets Secrets) bool {
	built := secrets.free(name, makers) && !Match(notMakers, name) && !Secret(name)
	common := secrets.free(name, everywhere, dirs)
	switch kind {
	case Git:
		return common || secrets.free(name, ways, gitSettings)
	case Install:
		return common || built || secrets.free(name, ways, installers) && !Match(notInstallers, name)
	}
	return common || built
}

// Match reports whether a name is one of the patterns: a name, "PREFIX*" or "*SUFFIX".
func Match(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		if suffix, ok := strings.CutPrefix(p, "*"); ok {
			return strings.HasSuffix(name, suffix)
		}
		return name == p
	})
}
