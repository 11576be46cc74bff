package life

import "time"

// Marks of a movement. An engine that only answers questions uses some CPU time, too: llama-server 0.1 ms for each, vLLM 50 ms
// for a page of metrics.
const (
	tick        = 10 * time.Millisecond // of the kernel's account of CPU time
	coreShare   = 20                    // CPU time counts from a twentieth of a core on
	memoryPiece = 1 << 20
)

// window is how long small movements may add up. Over a longer time the odd question from outside would.
const window = 10 * time.Second

// pace tells movement from rest.
type pace struct {
	base    Facts // what the next look is held against
	baseAt  time.Time
	moved   time.Time // when something has last moved, or the first look
	sign    string    // what it was, for people
	tokens  float64   // the last account
	known   bool      // tokens are
	counted float64   // by how much they have risen since the first account
}

// see holds f against what was before. It tells what has moved, "" for nothing, and whether tokens have.
func (p *pace) see(now time.Time, f Facts) (sign string, tokens bool) {
	if p.baseAt.IsZero() {
		p.base, p.baseAt, p.moved = f, now, now
	}
	tokens = p.count(f.Work)
	elapsed := now.Sub(p.baseAt)
	enough := max(2*tick, (elapsed / coreShare).Truncate(tick))
	switch b := p.base; {
	case tokens:
		sign = "tokens"
	case b.Log > 0 && f.Log > 0 && f.Log != b.Log:
		sign = "log lines"
	case b.CPU > 0 && f.CPU >= b.CPU+enough, b.Main > 0 && f.Main >= b.Main+enough:
		sign = "CPU time"
	case b.Memory > 0 && f.Memory >= b.Memory+memoryPiece && !p.accounts(f): // what requests take that gather in a wedged engine
		sign = "memory"
	}
	if sign != "" {
		p.sign, p.moved = sign, now
	}
	if sign != "" || elapsed >= window {
		p.base, p.baseAt = f, now
		return sign, tokens
	}
	// What was not looked at before has nothing to be held against.
	p.base.Log, p.base.Memory = orDefault(p.base.Log, f.Log), orDefault(p.base.Memory, f.Memory)
	p.base.Main, p.base.CPU = orDefault(p.base.Main, f.Main), orDefault(p.base.CPU, f.CPU)
	return sign, tokens
}

// mark counts as a movement.
func (p *pace) mark(now time.Time, sign string) { p.moved, p.sign = now, sign }

// accounts reports whether the engine tells of its tokens by itself.
func (p *pace) accounts(f Facts) bool { return f.Work != nil && f.Work.Tokens >= 0 }

// count reports whether tokens have been counted since the last account. A sum that has fallen is of a counter that began
// anew, which takes work as well.
func (p *pace) count(w *Work) bool {
	if w == nil || !(w.Tokens >= 0) {
		return false
	}
	moved := p.known && w.Tokens != p.tokens
	if moved {
		p.counted += max(w.Tokens-p.tokens, 1)
	}
	p.tokens, p.known = w.Tokens, true
	return moved
}
