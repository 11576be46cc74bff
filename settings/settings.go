// Package settings has the blocks of a pools file, and the kinds of values that stand in them. A provisioner.ProvisionConfig is made
// of them.
//
// They are plain data: a copy shares the slices, maps and pointers of the original. A block's zero value is one that was left out,
// and each field says what that means. What is wrong with one, provisioner.LoadConfig and provisioner.New tell; nothing here
// looks at the host.
package settings

import (
	"cmp"
	"time"
)

// Model refers to a model.
type Model struct {
	// ID is the reference: a path, relative to the file's folder (in Go: to Dir), "local:PATH" or "file:///PATH";
	// "hf:OWNER/REPO[@REVISION]/FILE" or "hf:OWNER/REPO[@REVISION]:QUANT" of the Hugging Face hub; or "https://…" with a
	// sha256. vllm, sglang and tgi take a folder, or "hf:OWNER/REPO[@REVISION]", which they fetch themselves; custom takes any
	// other words as they are. It stands in the handoff as it is.
	ID string `json:"id"`
	// SHA256 is the checksum of the file at an "https:" URL, 64 hexadecimal digits. No other reference takes one.
	SHA256 string `json:"sha256,omitempty"`
}

// Download says how slow the download of a model or an executable may be. What came before a limit ended it is kept, and
// the next try goes on with it.
type Download struct {
	// MinPerMinute is what each connection must bring within a minute, 64KiB to 1TiB. One that brings less is made anew; the
	// fifth in a row ends the download. Left out, it is 64KiB.
	MinPerMinute Size `json:"min_per_minute,omitempty"`
	// Timeout is for all of one file, at most 24 hours. Left out, it is that.
	Timeout Duration `json:"timeout,omitempty" validate:"min=0"`
}

// WithDefaults fills in what was left out.
func (c Download) WithDefaults() Download {
	c.MinPerMinute = cmp.Or(c.MinPerMinute, 64<<10)
	c.Timeout = cmp.Or(c.Timeout, Duration(24*time.Hour))
	return c
}

// Logs says how much of the engines' output is kept. Each launch has a file of its own; what is too much is cut
// while the engine runs, oldest bytes first.
type Logs struct {
	// Keep is how many launches' logs stay for each replica, 1 to 1000. The last failed launch's is among them, unless
	// only one is kept. Left out, it is 5.
	Keep int `json:"keep,omitempty" validate:"min=0,max=1000"`
	// MaxSize is how large the log of one launch may grow, 64KiB to 1TiB. Left out, it is 64MiB.
	MaxSize Size `json:"max_size,omitempty"`
	// MaxPoolSize is how much all logs of the pool may take, at least max_size. Those of launches that have ended go
	// first, then the share of each replica shrinks. Left out, it is 512MiB, or max_size if that is more.
	MaxPoolSize Size `json:"max_pool_size,omitempty"`
	// Stdout says that a run of the command repeats the engines' output on its own stdout, where that is what is kept, as of a
	// container. The library does nothing about it. Left out, it is false.
	Stdout bool `json:"stdout,omitempty"`
}

// WithDefaults fills in what was left out.
func (c Logs) WithDefaults() Logs {
	c.Keep = cmp.Or(c.Keep, 5)
	c.MaxSize = cmp.Or(c.MaxSize, 64<<20)
	c.MaxPoolSize = cmp.Or(c.MaxPoolSize, max(512<<20, c.MaxSize))
	return c
}
