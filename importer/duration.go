package importer

import (
	"fmt"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/unitvalue"
)

// takeDuration sets a key of a block to a time that was given elsewhere; one that no key can hold is told.
func (p *pool) takeDuration(block, key, text string) {
	d, ok := unitvalue.Duration(text)
	if !ok || d < time.Second || d > 24*time.Hour {
		p.note("left out: %s: %s.%s is from 1s to 24h", show(text), block, key)
		return
	}
	old, _ := p.Keys[block].Value.(map[string]any)
	written := d.Round(time.Second).String()
	if strings.HasSuffix(written, "m0s") {
		written = strings.TrimSuffix(written, "0s")
	}
	if strings.HasSuffix(written, "h0m") {
		written = strings.TrimSuffix(written, "0m")
	}
	values := map[string]any{key: written}
	for k, v := range old {
		if k != key {
			values[k] = v
		}
	}
	p.set(block, values, p.Keys[block].Note)
}

// seconds is a number of seconds that was given as a number or text.
func seconds(value any) string { return fmt.Sprint(value) + "s" }
