package quickstart

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// ModelError says that what was typed for a model is none.
type ModelError struct {
	Model string // as typed
	Err   error
}

func (e *ModelError) Error() string {
	return fmt.Sprintf("cannot use the model %q: %v", e.Model, e.Err)
}
func (e *ModelError) Unwrap() error { return e.Err }

// model is what was typed for a model, understood.
type model struct {
	id    string           // as "model.id" takes it
	local bool             // id is a path, relative to the working directory unless it is absolute
	kind  engine.ModelKind // ModelGGUF or ModelFolder; "" where it cannot be told without asking others
	name  string           // what people call it
}

// readModel understands what people type. What is neither here nor a name on the hub is an error that names what is near.
func readModel(typed string) (model, error) {
	m, err := understand(typed)
	if err != nil {
		return model{}, &ModelError{typed, err}
	}
	return m, nil
}

var scheme = lazyregexp.New(`^([A-Za-z][A-Za-z0-9+.-]+):`)

func understand(typed string) (model, error) {
	if typed == "" {
		return model{}, errors.New("it is empty; write a path, or \"owner/repo\" of the Hugging Face hub")
	}
	if strings.ContainsRune(typed, 0) { // in Go, since no command line can
		return model{}, errors.New("it holds a NUL character; remove it")
	}
	if here, err := os.Stat(typed); err == nil {
		return localModel(typed, typed, here)
	}
	if id, err := models.OfPage(typed); err != nil || id != "" {
		return hubModel(id), err
	}
	kind := ""
	if s := scheme.FindStringSubmatch(typed); s != nil {
		kind = s[1]
	}
	switch kind {
	case "hf":
		return hubModel("hf:" + strings.TrimPrefix(strings.TrimPrefix(typed, "hf:"), "//")), nil
	case "http", "https":
		return modelOfURL(typed)
	case "local", "file":
		file := strings.TrimPrefix(typed, "local:")
		if kind == "file" {
			u, err := url.Parse(typed)
			if err != nil || u.Path == "" {
				return model{}, errors.New(`write three slashes and an absolute path, such as "file:///models/chat.gguf"`)
			}
			file = u.Path
		}
		return look(typed, file)
	case "":
		if !models.IsHubName(typed) || strings.HasSuffix(typed, ".gguf") || exists(path.Dir(typed)) {
			return look(typed, typed)
		}
		return hubModel("hf:" + typed), nil
	}
	err := fmt.Errorf("%q is an unknown kind of reference; write a path, \"owner/repo:QUANT\" of the Hugging Face hub or an https URL", kind+":")
	if !strings.Contains(typed, "://") {
		err = fmt.Errorf("%w; names of Ollama's library, such as \"llama3:8b\", are not known here", err)
	}
	return model{}, err
}

func modelOfURL(typed string) (model, error) {
	u, err := url.Parse(typed)
	if err != nil {
		return model{}, errors.New("it is no URL that can be read")
	}
	return model{id: typed, kind: kindOfName(u.Path), name: path.Base(u.Path)}, nil
}

// hubModel is a reference to the hub, which is checked with the rest of the configuration.
func hubModel(id string) model {
	rest := strings.TrimPrefix(id, "hf:")
	repo, quant, hasQuant := strings.Cut(rest, ":")
	m := model{id: id, name: path.Base(repo), kind: kindOfName(repo)}
	if parts := strings.Split(repo, "/"); len(parts) == 2 {
		m.name, _, _ = strings.Cut(parts[1], "@")
		if strings.Contains(strings.ToLower(m.name), "gguf") { // as those who publish them name their repositories
			m.kind = engine.ModelGGUF
		}
		m.name = regexp.MustCompile(`(?i)[-_.]gguf$`).ReplaceAllString(m.name, "")
	}
	if hasQuant {
		m.kind = engine.ModelGGUF
		m.name += "-" + quant
	}
	return m
}

func kindOfName(name string) engine.ModelKind {
	if strings.HasSuffix(name, ".gguf") {
		return engine.ModelGGUF
	}
	return ""
}

// look looks at a path.
func look(typed, file string) (model, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return model{}, notThere(file)
	case err != nil:
		return model{}, cause(err)
	}
	return localModel(typed, file, info)
}

// localModel is a model on this host.
func localModel(typed, file string, info fs.FileInfo) (model, error) {
	m := model{id: typed, local: true, kind: engine.ModelGGUF}
	if typed == file && (scheme.MatchString(file) || strings.HasPrefix(file, "~")) {
		m.id = "./" + file // where it would be taken for something else
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return model{}, err
	}
	m.name = filepath.Base(abs)
	switch {
	case info.IsDir():
		m.kind = engine.ModelFolder
		return m, checkFolder(file)
	case !info.Mode().IsRegular():
		return model{}, errors.New("it is neither a file nor a folder")
	case strings.HasSuffix(file, ".safetensors"):
		return model{}, fmt.Errorf("it is one file of a model; name its folder, %q", filepath.Dir(file))
	case strings.HasSuffix(file, ".gguf") || startsLikeGGUF(file):
		return m, nil
	case slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(file))):
		return model{}, fmt.Errorf("it is no GGUF file; a pools file is run by: engine-provisioner --config %q", file)
	}
	return model{}, errors.New("it is no GGUF file; name one, or a folder with weights (*.safetensors)")
}

// startsLikeGGUF looks at a file by another name, as caches keep them.
func startsLikeGGUF(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 4)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "GGUF"
}

// checkFolder refuses a folder without weights.
func checkFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return cause(err)
	}
	var ggufs []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".safetensors", ".bin", ".pt", ".pth", ".tensors": // as the engines read them
			return nil
		case ".gguf":
			ggufs = append(ggufs, filepath.Join(dir, e.Name()))
		}
	}
	if len(ggufs) > 0 {
		return fmt.Errorf("it is a folder; name the GGUF file in it: %s", some(ggufs))
	}
	return errors.New("it is a folder without weights: there is neither a *.safetensors nor a *.gguf file in it")
}

// notThere says what is near a path where nothing is.
func notThere(file string) error {
	dir, base := filepath.Dir(file), filepath.Base(file)
	advice := ""
	entries, err := os.ReadDir(dir)
	var names, ggufs []string
	for _, e := range entries {
		if e.IsDir() || filepath.Ext(e.Name()) == ".gguf" {
			names = append(names, e.Name())
		}
		if !e.IsDir() && filepath.Ext(e.Name()) == ".gguf" {
			ggufs = append(ggufs, filepath.Join(dir, e.Name()))
		}
	}
	near := nearest.Of(base, names)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		advice = fmt.Sprintf("; there is no folder %q", dir)
	case near != "":
		advice = fmt.Sprintf("; did you mean %q?", filepath.Join(dir, near))
	case len(ggufs) > 0:
		advice = "; there is " + some(ggufs)
	}
	parts := strings.Split(file, "/")
	if len(parts) > 1 && models.IsHubName(strings.Join(parts[:2], "/")) && near == "" {
		advice += fmt.Sprintf("; of the Hugging Face hub it is %q", "hf:"+file)
	} else if len(parts) == 1 && near == "" {
		advice += `; a model of the Hugging Face hub is "owner/repo" or "owner/repo:QUANT"`
	}
	return fmt.Errorf("%w%s", fs.ErrNotExist, advice)
}

// some are the first few of the names, quoted.
func some(names []string) string {
	const most = 5
	var quoted []string
	for _, name := range names[:min(most, len(names))] {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	if len(names) > most {
		quoted = append(quoted, fmt.Sprintf("%d more", len(names)-most))
	}
	return strings.Join(quoted, ", ")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// cause leaves out the path, which stands in the message already.
func cause(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return access.Explain(err)
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// in is the reference for a configuration whose paths count from dir.
func (m model) in(dir string) string {
	if !m.local || dir == "" || filepath.IsAbs(m.id) || scheme.MatchString(m.id) && !strings.HasPrefix(m.id, "local:") {
		return m.id
	}
	file, err := filepath.Abs(strings.TrimPrefix(m.id, "local:"))
	here, hereErr := filepath.Abs(".")
	there, thereErr := filepath.Abs(dir)
	if err != nil || hereErr != nil || thereErr != nil || here == there {
		return m.id
	}
	return file
}

var (
	splitName = lazyregexp.New(`-00001-of-\d{5}$`)
	badLetter = lazyregexp.New(`[^a-z0-9_]+`)
)

// pool is a name for the model's pool, which names files, too.
func (m model) pool() string {
	name := splitName.ReplaceAllString(strings.TrimSuffix(m.name, ".gguf"), "")
	name = strings.Trim(badLetter.ReplaceAllString(strings.ToLower(name), "-"), "-_")
	name = strings.Trim(name[:min(63, len(name))], "-_") // no id is longer
	if name == "" {
		return "model"
	}
	return name
}
