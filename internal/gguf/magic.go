package gguf

import "fmt"

const (
	htmlPage   = "it is a page of HTML, such as the error or the login of a server"
	beforeGGUF = "it is of a format before GGUF, which no llama-server reads any more"
)

// others are what lies where a model should, by its first four bytes.
var others = map[string]string{
	"vers":             `it is a pointer of Git LFS, for which "git lfs pull" fetches the file`,
	"<!DO":             htmlPage,
	"<!do":             htmlPage,
	"<htm":             htmlPage,
	"PK\x03\x04":       "it is a ZIP archive, as of PyTorch; llama.cpp's convert_hf_to_gguf.py makes GGUF of a model's folder",
	"\x1f\x8b\x08\x00": "it is packed with gzip; unpack it",
	"\x1f\x8b\x08\x08": "it is packed with gzip; unpack it",
	"\x28\xb5\x2f\xfd": "it is packed with zstd; unpack it",
	"ggml":             beforeGGUF,
	"ggjt":             beforeGGUF,
	"lmgg":             beforeGGUF,
	"tjgg":             beforeGGUF,
}

// instead says what a file is that begins with magic.
func instead(magic string) string {
	if is := others[magic]; is != "" {
		return is
	}
	return fmt.Sprintf(`it begins with %q instead of "GGUF"`, magic)
}
