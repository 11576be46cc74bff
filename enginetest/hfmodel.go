package enginetest

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
)

// brokenWeights is what the safetensors library says of the model's files, "" when they are whole or not looked at.
// The words are those of its Rust code: safetensors/src/tensor.rs, SafeTensorError.
func brokenWeights(e *engine) string {
	if !e.b.CheckModel {
		return ""
	}
	files, _ := filepath.Glob(filepath.Join(e.opts.model, "*.safetensors"))
	for _, file := range files {
		if why := brokenSafetensors(file); why != "" {
			return "Error while deserializing header: " + why
		}
	}
	return ""
}

func brokenSafetensors(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	var size uint64
	if err := binary.Read(f, binary.LittleEndian, &size); err != nil {
		return "header too small"
	}
	rest := uint64(max(0, info.Size()-8))
	if size > rest {
		return "invalid header length"
	}
	header := make([]byte, size)
	if _, err := io.ReadFull(f, header); err != nil {
		return "invalid header length"
	}
	var tensors map[string]struct {
		Offsets []uint64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(header, &tensors); err != nil {
		return "invalid JSON in header: " + err.Error()
	}
	var end uint64
	for _, t := range tensors {
		if len(t.Offsets) == 2 {
			end = max(end, t.Offsets[1])
		}
	}
	if end != rest-size {
		return "incomplete metadata, file not fully covered"
	}
	return ""
}

// modelConfig reads the longest context from config.json in a model's folder.
func modelConfig(dir string) (limit int, hasConfig, exists bool) {
	if _, err := os.Stat(dir); err != nil {
		return 0, false, false
	}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return 0, false, true
	}
	var config struct {
		Positions int `json:"max_position_embeddings"`
	}
	_ = json.Unmarshal(data, &config) // a fake does not judge the rest
	return config.Positions, true, true
}
