package node

import (
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/cache"
)

// CacheItem is something that provisioning has put on this node and can download, build or install again.
type CacheItem struct {
	Kind    CacheKind `json:"kind"`
	Name    string    `json:"name"` // for people
	Path    string    `json:"path"` // absolute
	Bytes   int64     `json:"bytes"`
	UsedAt  time.Time `json:"used_at"`           // about the last start with it
	Partial bool      `json:"partial,omitempty"` // it is not complete; the next try goes on with it
	InUse   bool      `json:"in_use,omitempty"`  // a process runs with it or works on it; seen on Linux alone
}

// CacheKind says what an item of the cache is.
type CacheKind string

// The kinds of items.
const (
	CacheModel    CacheKind = "model"     // of an https URL
	CacheHubModel CacheKind = "hub_model" // in the cache of Hugging Face, which other tools share
	CacheEngine   CacheKind = "engine"    // built, installed or unpacked
	CacheFacts    CacheKind = "facts"     // what is known of executables
	CacheOther    CacheKind = "other"     // whatever else lies in the folder
)

// Cache lists what provisioning has brought onto this node. Models of the Hugging Face hub are listed where provisioning
// has downloaded them.
func Cache(opts ...provisioner.Option) ([]CacheItem, error) {
	found, err := storeOf(opts).List()
	return cacheItems(found), err
}

// PruneCache removes the items that choose is true for, and returns them. Those in use stay, and what choose says of them
// does not matter.
func PruneCache(choose func(CacheItem) bool, opts ...provisioner.Option) ([]CacheItem, error) {
	gone, err := storeOf(opts).Prune(func(item cache.Item) bool { return choose(cacheItem(item)) })
	return cacheItems(gone), err
}

func storeOf(opts []provisioner.Option) cache.Cache {
	return cache.Cache{Dir: provisioner.CacheDir(opts...)}
}

func cacheItems(found []cache.Item) (items []CacheItem) {
	for _, item := range found {
		items = append(items, cacheItem(item))
	}
	return items
}

func cacheItem(i cache.Item) CacheItem {
	return CacheItem{
		Kind: CacheKind(i.Kind), Name: i.Name, Path: i.Path, Bytes: i.Bytes, UsedAt: i.UsedAt, Partial: i.Partial, InUse: i.InUse,
	}
}
