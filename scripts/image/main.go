// Command image writes a container image that holds one executable, as an archive for "docker load" and "podman load". The
// same executable gives the same archive, byte for byte; no container runtime takes part.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"time"
)

func main() {
	executable := flag.String("executable", "", "the executable, which must be static")
	name := flag.String("name", "", "the image's name and tag")
	arch := flag.String("arch", "amd64", "the architecture, as Go calls it")
	date := flag.Int64("date", 0, "the time of everything in it, in seconds since 1970")
	out := flag.String("o", "", "the archive")
	flag.Parse()
	if err := write(*executable, *name, *arch, *out, time.Unix(*date, 0).UTC()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func write(executable, name, arch, out string, date time.Time) error {
	program, err := os.ReadFile(executable)
	if err != nil {
		return err
	}
	entry := "/" + path.Base(executable)
	layer, err := archive(date, file{"tmp/", nil, 0o1777}, file{entry[1:], program, 0o755})
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux", "created": date.Format(time.RFC3339),
		"config": map[string]any{"Entrypoint": []string{entry}, "WorkingDir": "/", "Env": []string{"HOME=/", "PATH=/"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	image, err := archive(date, file{"layer.tar", layer, 0o644}, file{configName, config, 0o644}, file{"manifest.json", manifest, 0o644})
	if err != nil {
		return err
	}
	return os.WriteFile(out, image, 0o644)
}

type file struct {
	name string // a folder's ends with "/"
	data []byte
	mode int64
}

func archive(date time.Time, files ...file) ([]byte, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: f.mode, ModTime: date}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), w.Close()
}
