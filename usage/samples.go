package usage

import (
	"slices"
	"time"
)

const (
	// remembered is how long a sample is.
	remembered = 10 * time.Second
	// cpuOver is at least the time over which the use of processors is told: the kernel counts it in steps of 10 ms.
	cpuOver = 200 * time.Millisecond
	// tokensOver is the same for tokens, which come in bursts, and for loads.
	tokensOver = 3 * time.Second
)

// sample is what a launch had used up by a moment.
type sample struct {
	at     time.Time
	cpu    float64
	tokens *int64
	loaded int64
}

// samples are those of late, oldest first.
type samples []sample

// add remembers what u says, and adds the rates to it.
func (s *samples) add(u *Usage) {
	now := sample{at: u.Time, cpu: u.CPUSeconds, tokens: u.Tokens, loaded: u.loaded()}
	*s = slices.DeleteFunc(*s, func(old sample) bool { return now.at.Sub(old.at) > remembered })
	if before, ok := s.before(now.at, cpuOver); ok {
		u.CPU = new(perSecond(now.cpu-before.cpu, before, now))
	}
	counted := slices.DeleteFunc(slices.Clone(*s), func(old sample) bool { return old.tokens == nil })
	if before, ok := counted.before(now.at, tokensOver); ok && now.tokens != nil {
		u.TokenRate = new(perSecond(float64(*now.tokens-*before.tokens), before, now))
	}
	*s = append(*s, now)
}

// before is the latest sample that is at least so old, or else the oldest.
func (s samples) before(now time.Time, age time.Duration) (sample, bool) {
	for _, old := range slices.Backward(s) {
		if now.Sub(old.at) >= age {
			return old, true
		}
	}
	if len(s) == 0 || !now.After(s[0].at) {
		return sample{}, false
	}
	return s[0], true
}

// perSecond is a rate; processes that have ended and requests that were called off take what they had with them.
func perSecond(growth float64, from, to sample) float64 {
	return max(0, growth) / to.at.Sub(from.at).Seconds()
}

// loaded is how much of a model the launch may have taken in.
func (u *Usage) loaded() int64 {
	if u.GPUMemory != nil {
		return max(u.Memory, *u.GPUMemory)
	}
	return u.Memory
}

// load is how far the load is. u is the last of the samples.
func (l *launch) load(u *Usage) *Load {
	load := &Load{Model: l.rec.modelName(), Done: u.loaded(), Total: l.rec.modelSize()}
	now := l.samples[len(l.samples)-1]
	if before, ok := l.samples[:len(l.samples)-1].before(now.at, tokensOver); ok {
		load.Rate = perSecond(float64(now.loaded-before.loaded), before, now)
	}
	if load.Total > 0 {
		load.Done = min(load.Done, load.Total)
		if load.Rate > 0 {
			load.Remaining = float64(load.Total-load.Done) / load.Rate
		}
	}
	return load
}
