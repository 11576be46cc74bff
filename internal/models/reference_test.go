package models

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRef(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"hf:org/repo/chat.gguf":                    "org/repo @ main / chat.gguf : ",
		"hf:org/re.po/sub/chat.gguf":               "org/re.po @ main / sub/chat.gguf : ",
		"hf:org/repo@v1.0/chat.gguf":               "org/repo @ v1.0 / chat.gguf : ",
		"hf:org/repo@refs%2Fpr%2F1:Q8_0":           "org/repo @ refs/pr/1 /  : Q8_0",
		"hf:org/repo:q4_k_m":                       "org/repo @ main /  : q4_k_m",
		"hf:org/repo":                              "org/repo @ main /  : ",
		"hf:org/repo/chat-00001-of-00002.gguf":     "org/repo @ main / chat-00001-of-00002.gguf : ",
		"https://models.example/chat.gguf":         "https://models.example/chat.gguf",
		"http://127.0.0.1:80/chat.gguf":            "http://127.0.0.1:80/chat.gguf",
		"chat.gguf":                                "/srv/chat.gguf",
		"hf:repo":                                  `error: "repo" is no repository`,
		"hf:org/repo/":                             `error: "" is no name of a file`,
		"hf:org/repo/../../etc/passwd":             `error: "../../etc/passwd" is no name of a file`,
		"hf:../..:Q4":                              `error: "../.." is no repository`,
		"hf:org/a--b:Q4":                           `error: "org/a--b" is no repository`,
		"hf:org/repo@../x:Q4":                      `error: ".." is no revision`,
		"hf:org/repo@..%2Fx:Q4":                    `error: "..%2Fx" is no revision`,
		"hf:org/repo@:Q4":                          `error: "" is no revision`,
		"hf:org/repo:":                             `error: "" is no quantization`,
		"hf:org/repo:Q4 K":                         `error: "Q4 K" is no quantization`,
		"hf:org/repo/chat-00002-of-00002.gguf":     `error: "chat-00002-of-00002.gguf" is part 2 of a model in 2; name the first`,
		"http://models.example/chat.gguf":          `error: "http://models.example/chat.gguf" is not https`,
		"https://me:hunter2@models.example/a.gguf": "error: holds a user or password",
		"https://models.example/a.gguf?k=hunter2":  "error: holds a query or fragment",
		"https://models.example/":                  `error: "/" is no name of a file`,
		"https://models.example":                   `error: "." is no name of a file`,
		"https://m.example/a-00001-of-00002.gguf":  "error: is a part of a split model",
	} {
		ref, err := Request{ID: id, Dir: "/srv", Kind: GGUF}.Ref()
		got := ref.Path + ref.URL
		if ref.hub != nil {
			got = fmt.Sprintf("%s @ %s / %s : %s", ref.hub.repo, ref.hub.revision, ref.hub.file, ref.hub.quant)
		}
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want && !(strings.HasPrefix(want, "error: ") && strings.HasPrefix(got, want)) {
			t.Errorf("%s:\ngot  %s\nwant %s", id, got, want)
		}
		if strings.Contains(got, "hunter2") {
			t.Errorf("%s: a secret is in %s", id, got)
		}
	}
	for kind, want := range map[Kind]string{Folder: "", Any: "", File: "names no file"} {
		_, err := Request{ID: "hf:org/repo", Kind: kind}.Ref()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("kind %q: %v, want %q", kind, err, want)
		}
	}
}

// An engine that takes folders fetches a model by itself; what goes to its command line is a name and a revision.
func TestRefOfFolder(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"hf:org/repo": "", "hf:org/repo@0123abc": "", "hf:org/repo@refs/pr/1": "", "/models/chat": "", "local:chat": "",
		"hf:":                     `"" is no repository`,
		"hf:repo":                 `"repo" is no repository`,
		"hf:--port/1":             `"--port/1" is no repository`,
		"hf:org/repo/a.gguf":      `"org/repo/a.gguf" is no repository`,
		"hf:org/repo:Q4":          `"org/repo:Q4" is no repository`,
		"hf:org/repo@":            `"" is no revision`,
		"hf:org/repo@--port":      `"--port" is no revision`,
		"https://m.example/a.tar": "this engine takes a folder",
		"http://m.example/a.tar":  "this engine takes a folder",
	} {
		ref, err := Request{ID: id, Dir: "/srv", Kind: Folder}.Ref()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || ref.hub != nil || ref.URL != "" {
			t.Errorf("%s: got %+v, %v, want %q", id, ref, err, want)
		}
	}
}

func FuzzRef(f *testing.F) {
	for _, id := range []string{"hf:org/repo@v1/chat.gguf", "hf:a/b:Q4", "https://m.example/a.gguf", "local:a", "hf:a/b@..%2f/c"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		ref, err := Request{ID: id, Dir: "/srv", Kind: GGUF}.Ref()
		if err != nil || ref.hub == nil {
			return
		}
		h := hub{cache: "/cache"}
		for _, path := range []string{
			h.folder(ref.hub.repo), filepath.Join("/cache/refs", ref.hub.revision), filepath.Join("/cache/snapshots", ref.hub.file),
		} {
			if !strings.HasPrefix(path, "/cache/") {
				t.Errorf("%q leaves the cache: %q", id, path)
			}
		}
	})
}

func TestQuant(t *testing.T) {
	t.Parallel()
	repo := []string{
		"README.md", "mmproj-Q4_K_M.gguf", "MTP/mtp-chat-Q4_K_M.gguf", "imatrix.gguf", "chat-BF16.gguf", "chat-Q8_0.gguf", "chat-q4_k_m.gguf", "chat-Q4_K_S.gguf",
		"chat.IQ2_XS.gguf", "big/chat-F16-00001-of-00002.gguf", "big/chat-F16-00002-of-00002.gguf", "torn-Q6_K-00001-of-00002.gguf",
		"UD/chat-UD-Q3_K_XL.gguf",
	}
	for quant, want := range map[string][]string{
		"":           {"chat-q4_k_m.gguf"},
		"Q4_K_M":     {"chat-q4_k_m.gguf"},
		"q8_0":       {"chat-Q8_0.gguf"},
		"Q4_K":       nil,
		"Q4":         nil,
		"iq2_xs":     {"chat.IQ2_XS.gguf"},
		"F16":        {"big/chat-F16-00001-of-00002.gguf", "big/chat-F16-00002-of-00002.gguf"},
		"BF16":       {"chat-BF16.gguf"},
		"Q6_K":       nil,
		"UD-Q3_K_XL": {"UD/chat-UD-Q3_K_XL.gguf"},
		".*":         nil,
	} {
		if got := (hubRef{quant: quant}).choose(repo, true); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", quant, got, want)
		}
	}
	others := []string{"b-Q8_0.gguf", "a-Q2_K.gguf", "mmproj.gguf"}
	if got := (hubRef{}).choose(others, true); !slices.Equal(got, []string{"a-Q2_K.gguf"}) {
		t.Errorf("without the usual one: %v", got)
	}
	if got := (hubRef{}).choose(others, false); got != nil {
		t.Errorf("of a part of the files: %v", got)
	}
}
