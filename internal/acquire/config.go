package acquire

// SourceConfig says what is built: a CMake project in a git repository. Its fields are those of the configuration.
type SourceConfig struct {
	Repo       string   `json:"repo"`
	Ref        string   `json:"ref"`
	Submodules bool     `json:"submodules,omitempty"`
	CMakeFlags []string `json:"cmake_flags,omitempty"`
	Targets    []string `json:"targets,omitempty"`
	Generator  string   `json:"generator,omitempty"`
	Jobs       int      `json:"jobs,omitempty"`
}

// PackageConfig says what is installed. Its fields are those of the configuration. The cache knows an installation by the
// JSON of it.
type PackageConfig struct {
	Requirements []string `json:"requirements,omitempty"`
	Lock         string   `json:"lock,omitempty"`
	Python       string   `json:"python,omitempty"`
	Installer    string   `json:"installer,omitempty"`
	ExtraArgs    []string `json:"extra_args,omitempty"`
}

// BinaryConfig says what is downloaded. Its fields are those of the configuration. The cache knows a download by the JSON
// of it.
type BinaryConfig struct {
	Path    string `json:"path,omitempty"`
	URL     string `json:"url,omitempty"`
	Release string `json:"release,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	Strip   int    `json:"strip,omitempty"`
}
