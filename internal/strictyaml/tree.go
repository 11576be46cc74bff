package strictyaml

import "go.yaml.in/yaml/v3"

// Tree reads data as a tree, for readers with rules of their own. Its aliases are left as they are: they can expand to far
// more than stands there, and hold themselves.
func Tree(data []byte) (*yaml.Node, []Problem) {
	d := &decoder{positions: map[string]Position{}}
	root := d.parse(data)
	return root, d.problems
}

// Keys are those at the top of a document, in their order; none where data are no such document.
func Keys(data []byte) []string {
	root, _ := Tree(data)
	if root == nil || root.Kind != yaml.MappingNode {
		return nil
	}
	var keys []string
	for i := 0; i+1 < len(root.Content); i += 2 {
		keys = append(keys, root.Content[i].Value)
	}
	return keys
}
