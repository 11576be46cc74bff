// Package usage measures what launches take and do: the processors and main memory of all their processes, the memory of GPUs,
// the requests that their engines have and the tokens that they generate, and how far a load is.
//
// It owns the meaning of these numbers. Programs that show or record them make a [Meter], and package fleet measures with it what
// it tells of a state directory. Nothing is measured unless somebody asks, and nothing goes on in between. It reads: it writes no
// file, signals no process, wakes no engine that sleeps, and waits for none that is too busy to answer.
package usage

import "time"

// Usage is what a launch took and did when it was measured. What could not be found out is nil, which is another thing than 0.
type Usage struct {
	Time time.Time `json:"time"` // of the measurement
	// Processes is how many processes the launch has.
	Processes int `json:"processes"`
	// CPU is how many processors they kept busy of late, such as 1.5; nil in a launch's first measurement.
	CPU *float64 `json:"cpu,omitempty"`
	// CPUSeconds is the processor time of those that live, in all.
	CPUSeconds float64 `json:"cpu_seconds"`
	// Memory is their resident main memory in bytes. What they share is counted for each of them, also a mapped model.
	Memory int64 `json:"memory"`
	// GPUMemory is what they hold of all GPUs in bytes; nil where no driver tells, and without a GPU.
	GPUMemory *int64 `json:"gpu_memory,omitempty"`
	// GPUs are the GPUs of which that is, in the order of their ids; nil where GPUMemory is.
	GPUs []GPU `json:"gpus,omitempty"`
	// Running is how many requests the engine has, and Waiting how many more wait in it; Waiting is nil where the engine does not
	// tell one from the other, and Running holds both.
	Running *int `json:"requests_running,omitempty"`
	Waiting *int `json:"requests_waiting,omitempty"`
	// Tokens is how many tokens the engine has generated since its start.
	Tokens *int64 `json:"tokens,omitempty"`
	// TokenRate is how many it generated a second of late; nil in a launch's first measurement.
	TokenRate *float64 `json:"tokens_per_second,omitempty"`
	// Asleep says that the engine sleeps, so that it has no requests.
	Asleep bool `json:"asleep,omitempty"`
	// Load is how far the load is of an engine that loads; nil of others.
	Load *Load `json:"load,omitempty"`
}

// Idle reports whether the engine has said that it has nothing to do, so that there is no rate that is worth a wait.
func (u *Usage) Idle() bool {
	none := func(n *int) bool { return n != nil && *n == 0 }
	return u.Load == nil && (u.Asleep || none(u.Running) && (u.Waiting == nil || none(u.Waiting)))
}

// GPU is what a launch holds of one GPU.
type GPU struct {
	ID     string `json:"id"`     // the UUID or PCI address; "" where it is not known which it is
	Memory int64  `json:"memory"` // in bytes
}

// Load is how far an engine has loaded its model: by the memory that it has taken, held against the size of the model's files.
// An engine whose program takes much memory by itself seems further than it is.
type Load struct {
	Model     string  `json:"model"`               // the name of its file or folder
	Done      int64   `json:"done"`                // bytes; at most Total
	Total     int64   `json:"total,omitempty"`     // bytes; 0 where it is not known
	Rate      float64 `json:"rate,omitempty"`      // bytes a second of late; 0 where that is not known
	Remaining float64 `json:"remaining,omitempty"` // seconds; 0 where that is not known
}
