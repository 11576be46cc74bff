package importer

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/redact"
)

var proxyPort = lazyregexp.New(`^https?://([^/]*):([0-9]+)/?$`)

// takeProxy finds the port where the command line names none: there llama-swap looks for the model.
func (f *swapFile) takeProxy(p *pool, m swapModel, name string, port int) {
	proxy, _, err := f.expand(name, m.Proxy, port)
	if err != nil || proxy == "" {
		return
	}
	found := proxyPort.FindStringSubmatch(proxy)
	if found == nil {
		p.note("left out: proxy: %s", show(proxy))
		return
	}
	n, _ := strconv.Atoi(found[2])
	switch {
	case p.Keys["port"].Value == n:
	case p.Keys["port"].Note != "" && n > 0 && n < 1<<16:
		p.set("port", n, "")
	default:
		p.note("left out: proxy: %s: it listens on another port", show(proxy))
	}
	if host := found[1]; host != "127.0.0.1" && host != "localhost" {
		p.note("decide: llama-swap found it on %s", show(host))
	}
}

// takeModel says what became of a model's settings.
func (f *swapFile) takeModel(p *pool, m swapModel) {
	timeout, own := m.Rest["healthCheckTimeout"]
	if !own {
		timeout = f.HealthCheckTimeout
	}
	if timeout != nil {
		p.takeDuration("ready", "timeout", seconds(timeout))
	}
	switch check := m.CheckEndpoint; {
	case check == "" || check == "/health":
	case p.Engine == "custom" && strings.HasPrefix(check, "/"):
		custom := maps.Clone(block(p.Keys["custom"].Value))
		custom["health"] = check
		p.set("custom", custom, p.Keys["custom"].Note)
	default:
		p.note("left out: checkEndpoint: %s: where an engine says that it is ready is known", show(check))
	}
	ttl := m.TTL
	if ttl == nil {
		ttl = f.GlobalTTL
	}
	if n, ok := ttl.(int); ok && n > 0 {
		advice := ""
		if p.Engine == "llamacpp" {
			advice = fmt.Sprintf("; newer builds of llama-server free the memory with the flags --sleep-idle-seconds %d", n)
		}
		p.note("left out: ttl: %d: a replica stays loaded%s", n, advice)
	} else if ttl != nil && !ok {
		p.note("left out: %s", showKey("ttl", ttl))
	}
	if m.Name != "" {
		p.note("left out: name: %s", show(m.Name))
	}
	for _, key := range slices.Sorted(maps.Keys(m.Rest)) {
		switch value := m.Rest[key]; {
		case nothing(value):
		case key == "healthCheckTimeout":
		case key == "cmdStop":
			p.note("left out: cmdStop: %s: the provisioner stops what it has started", show(value))
		case key == "aliases":
			p.note("left out: aliases: %s: llama-swap answered to these names; llama-server does with --alias, vLLM and SGLang with --served-model-name", show(value))
		case key == "filters" || key == "useModelName" || key == "concurrencyLimit":
			p.note("left out: %s: llama-swap changed requests by it, which a router in front of the engine can do", showKey(key, value))
		case redact.Name(key):
			p.note("left out: %s", showKey(key, value))
		default:
			p.note("left out: %s: a setting of llama-swap itself", showKey(key, value))
		}
	}
}

// nothing reports whether a value says nothing.
func nothing(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// withoutComments is a command as llama-swap reads it: lines that begin with "#" are comments, and a backslash at the end of a
// line goes.
func withoutComments(cmd string) string {
	var b strings.Builder
	for line := range strings.Lines(cmd) {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "#"):
		case strings.HasSuffix(trimmed, "\\"):
			b.WriteString(strings.TrimSuffix(trimmed, "\\") + " ")
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}
