package ggufgen

import (
	"fmt"
	"io"
)

// WriteSplit writes the model of WriteFile in parts, as llama-gguf-split does with --no-tensor-first-split: the first part
// has the metadata alone. prefix is a path without the parts' "-00001-of-00003.gguf". It returns their paths.
func WriteSplit(prefix string, p Params, parts int) ([]string, error) {
	p, err := p.WithDefaults()
	if err != nil {
		return nil, err
	}
	tensors := p.tensors()
	if parts < 2 || parts > len(tensors)+1 {
		return nil, fmt.Errorf("cannot split a model of %d tensors into %d parts", len(tensors), parts)
	}
	weights := newNoise(p.Seed)
	var paths []string
	for i := range parts {
		metadata := []pair{
			{"split.no", uint16(i)}, {"split.count", uint16(parts)}, {"split.tensors.count", int32(len(tensors))},
		}
		var held []tensor
		if i == 0 {
			metadata = append(p.metadata(), metadata...)
		} else {
			held = tensors[(i-1)*len(tensors)/(parts-1) : i*len(tensors)/(parts-1)]
		}
		path := fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, i+1, parts)
		if err := replace(path, func(w io.Writer) error { return write(w, metadata, held, weights) }); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}
