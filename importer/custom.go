package importer

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// placePort writes "{port}" and "{host}" where they stand in the command of a server that is not built in.
func (p *pool) placePort() {
	words, _ := block(p.Keys["custom"].Value)["command"].([]string)
	for i, word := range words {
		flag, value, joined := strings.Cut(word, "=")
		if !joined && i+1 < len(words) {
			value = words[i+1]
		}
		if flag != "--port" && flag != "-p" && flag != "-port" {
			continue
		}
		if n, err := strconv.Atoi(value); err == nil && n > 0 && n < 1<<16 {
			p.set("port", n, "")
			p.placeWord(value, "{port}")
			break
		}
	}
}

// placeWord writes a placeholder where a word stands for what it will be, and the host that it listens on beside it.
func (p *pool) placeWord(word, placeholder string) {
	custom := maps.Clone(block(p.Keys["custom"].Value))
	words, _ := custom["command"].([]string)
	words = slices.Clone(words)
	found := false
	for i, w := range words {
		before, ends := strings.CutSuffix(w, word)
		if ends && (before == "" || strings.HasSuffix(before, "=") || strings.HasSuffix(before, ":")) {
			words[i], found = before+placeholder, true
		}
		for _, host := range []string{"0.0.0.0", "127.0.0.1", "localhost"} {
			before, after, ok := strings.Cut(words[i], host)
			if ok && i > 0 && (before == "" || strings.HasSuffix(before, "=")) && (after == "" || after[0] == ':') {
				words[i] = before + "{host}" + after
			}
		}
	}
	if !found {
		return
	}
	custom["command"] = words
	p.set("custom", custom, "not one of the built-in engines: write the path that answers 200 when it is ready")
	if n, err := strconv.Atoi(word); err == nil {
		p.set("port", n, "")
	}
}
