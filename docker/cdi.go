package docker

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/llama-orch/engine-provisioner/engine"
)

// cdiFolders are where runtimes look for what CDI names mean (Container Device Interface specification, "CDI directories").
var cdiFolders = []string{"/etc/cdi", "/var/run/cdi"}

// cdiSpec is the part of a specification that says which device a name means.
type cdiSpec struct {
	Kind    string `json:"kind"`
	Devices []struct {
		Name  string `json:"name"`
		Edits struct {
			Nodes []cdiNode `json:"deviceNodes"`
		} `json:"containerEdits"`
	} `json:"devices"`
}

type cdiNode struct {
	Path     string `json:"path"`
	HostPath string `json:"hostPath"`
}

// cdiName is the name of a GPU by CDI. The specifications of this machine are asked, because the tools that write them name
// devices by index, by UUID or by address; where they cannot be read, it is what nvidia-ctk and amd-ctk write by default.
func cdiName(g engine.GPU, folders []string) string {
	kind := string(g.Vendor) + ".com/gpu"
	name := strconv.Itoa(g.Index)
	if strings.HasPrefix(g.UUID, "MIG-") { // which has its GPU's index
		name = g.UUID
	}
	fewest := 0
	for _, spec := range cdiSpecs(folders) {
		if spec.Kind != kind {
			continue
		}
		for _, d := range spec.Devices {
			if g.UUID != "" && d.Name == g.UUID {
				return kind + "=" + g.UUID
			}
			// The one with this device file alone, and not "all".
			nodes := len(d.Edits.Nodes)
			holds := g.Render != "" && slices.ContainsFunc(d.Edits.Nodes, func(n cdiNode) bool { return n.Path == g.Render || n.HostPath == g.Render })
			if holds && (fewest == 0 || nodes < fewest) {
				name, fewest = d.Name, nodes
			}
		}
	}
	return kind + "=" + name
}

// cdiSpecs reads the specifications. What cannot be read is the runtime's to complain of.
func cdiSpecs(folders []string) []cdiSpec {
	var all []cdiSpec
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
				continue
			}
			var spec cdiSpec
			if readYAML(filepath.Join(folder, e.Name()), &spec) == nil {
				all = append(all, spec)
			}
		}
	}
	return all
}

func readYAML(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const limit = 1 << 20 // a machine with 8 GPUs has 50 kB
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return err
	}
	return yaml.Unmarshal(data, v)
}
