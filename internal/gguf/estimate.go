package gguf

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	parser "github.com/gpustack/gguf-parser-go"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// Settings are those of a run that its memory depends on. The zero value stands for llama.cpp's defaults with one slot
// on the CPU.
type Settings struct {
	Context     int       // tokens over all slots; 0 means the model's own
	Slots       int       // requests at once; 0 means 1
	Batch       int       // logical; 0 means 2048
	MicroBatch  int       // physical; 0 means 512
	KeyType     string    // of the KV cache, such as "q8_0"; "" means "f16"
	ValueType   string    // as KeyType
	NoFlash     bool      // without flash attention
	KVOnHost    bool      // the KV cache stays off the GPUs
	FullSWA     bool      // a KV cache of full size for sliding windows
	Layers      int       // on GPUs; negative means all
	Shares      []float64 // of each GPU in the layers, in any unit; nil means the CPU alone
	Split       string    // over the GPUs: "layer", "row" or "none"; "" means "layer"
	MainGPU     int       // the one that takes all where Split is "none"
	BesideBytes uint64    // of models that are loaded beside: draft, projector, adapters
	Copied      bool      // the weights are read into memory of the process's own, instead of being mapped
	NoRepack    bool      // the CPU works with the weights as they are in the file
	OnHost      []string  // regular expressions of the names of tensors that stay off the GPUs
}

// Need is an estimate of memory in bytes.
type Need struct {
	Host   uint64
	Mapped uint64   // the part of Host that is the file itself, which all who map it share; told for runs on the CPU alone
	GPUs   []uint64 // as many as Settings.Shares

	// Of all of it, wherever it is:
	Weights uint64 // with those of the models beside
	Cache   uint64 // of keys and values
}

// gpuOverhead is what a CUDA context takes of each GPU: the default of gguf-parser's command line (--platform-footprint).
const gpuOverhead = 250 << 20

// Estimate says how much memory llama-server needs to run the model. TestEstimate holds it against what a real
// llama-server allocates on the CPU; for GPUs it is gguf-parser's word. ok is false where that cannot be told, as with a
// model of a kind that gguf-parser does not know, or one that states what it does not know how to read.
func (m *Model) Estimate(s Settings) (need Need, ok bool) {
	if !m.estimable {
		return Need{}, false
	}
	// The library panics where numbers do not go together, such as no attention heads. What would end the program beyond
	// that, the scan has refused.
	defer func() {
		if p := recover(); p != nil {
			need, ok = Need{}, false
		}
	}()
	kept, err := onHost(s.OnHost)
	if err != nil {
		return Need{}, false
	}
	need = m.estimate(s, kept)
	need.Weights = m.file.TensorInfos.Bytes() + s.BesideBytes
	for _, n := range append([]uint64{need.Host, need.Weights, need.Cache}, need.GPUs...) {
		if n > maxNeed { // a sum or a product went over 64 bits
			return Need{}, false
		}
	}
	return need, true
}

// maxNeed is more memory than any machine has, and less than what a negative number looks like.
const maxNeed = 1 << 52

// estimate leaves the tensors whose names match kept, nil for none, on the host.
func (m *Model) estimate(s Settings, kept *regexp.Regexp) Need {
	if len(s.Shares) == 0 || s.Layers == 0 {
		need := m.onHost(s)
		need.GPUs = make([]uint64, len(s.Shares))
		return need
	}
	options := append(m.options(s), parser.WithTensorSplitFraction(fractions(s.Shares)), parser.WithMainGPUIndex(s.MainGPU))
	layers := uint64(math.MaxUint64)
	if s.Layers > 0 {
		layers = uint64(s.Layers)
	}
	switch s.Split {
	case "row":
		options = append(options, parser.WithLLaMACppSplitMode(parser.LLaMACppSplitModeRow))
	case "none":
		options = append(options, parser.WithLLaMACppSplitMode(parser.LLaMACppSplitModeNone))
	}
	e := m.file.EstimateLLaMACppRun(append(options, parser.WithLLaMACppOffloadLayers(layers))...)
	sum := e.SummarizeItem(true, 0, gpuOverhead)
	need := Need{Host: uint64(sum.RAM.NonUMA), GPUs: make([]uint64, len(s.Shares)), Cache: cacheOf(e)}
	for i, v := range sum.VRAMs {
		if i < len(need.GPUs) {
			need.GPUs[i] = uint64(v.NonUMA)
		}
	}
	m.keepOnHost(s, kept, &need)
	if s.BesideBytes > 0 {
		need.GPUs[min(max(s.MainGPU, 0), len(need.GPUs)-1)] += s.BesideBytes
	}
	return need
}

// onHost puts together what gguf-parser knows, rather than take its sum: it counts the logits of a whole batch and the
// tied embedding twice, 57 % too much for a SmolLM2-135M, while its graph for a GPU is within 2 % of what the CPU takes.
func (m *Model) onHost(s Settings) Need {
	e := m.file.EstimateLLaMACppRun(append(m.options(s), parser.WithLLaMACppOffloadLayers(math.MaxUint64))...)
	cache := cacheOf(e)
	need := m.file.TensorInfos.Bytes() + s.BesideBytes + cache
	return Need{Host: need + uint64(e.Devices[len(e.Devices)-1].Computation.Compute), Mapped: m.mapped(s), Cache: cache}
}

func cacheOf(e parser.LLaMACppRunEstimate) (bytes uint64) {
	for _, d := range e.Devices {
		bytes += uint64(d.KVCache.Sum())
	}
	return bytes
}

// onHost is one expression for several; nil for none.
func onHost(patterns []string) (*regexp.Regexp, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	return regexp.Compile("(?:" + strings.Join(patterns, ")|(?:") + ")")
}

// keepOnHost moves the weights that stay in main memory away from the GPUs of their layers: with --n-cpu-moe and its
// like, most of a mixture of experts.
func (m *Model) keepOnHost(s Settings, kept *regexp.Regexp, need *Need) {
	if kept == nil {
		return
	}
	layers, _ := m.Layers()
	offloaded := layers + 1 // the output counts as one
	if s.Layers > 0 {
		offloaded = min(offloaded, s.Layers)
	}
	first := layers + 1 - offloaded
	sums := fractions(s.Shares)
	for _, t := range m.file.TensorInfos {
		layer := layerOf(t.Name)
		if layer < first || !kept.MatchString(t.Name) {
			continue
		}
		at := float64(layer-first) / float64(offloaded)
		gpu := min(sort.Search(len(sums), func(i int) bool { return sums[i] > at }), len(sums)-1) // as llama.cpp gives layers to GPUs
		if s.Split == "none" {
			gpu = min(max(s.MainGPU, 0), len(sums)-1)
		}
		moved := min(need.GPUs[gpu], t.Bytes())
		need.GPUs[gpu] -= moved
		need.Host += moved
	}
}

// Experts is an expression for the names of the tensors of a layer's experts, as llama-server has it for --cpu-moe
// (common.h of b11669). The layer is an expression, too.
func Experts(layer string) string {
	return `blk\.` + layer + `\.ffn_(up|down|gate|gate_up)_(ch|)exps`
}

// FirstExperts are expressions for those of the first layers.
func FirstExperts(layers int) []string {
	var all []string
	for n := range layers {
		all = append(all, Experts(strconv.Itoa(n)))
	}
	return all
}

var anyExperts = lazyregexp.New(Experts(`\d+`))

// Layers is how many layers the model has, and how many of the first of them have all its experts: 0 where it is no
// mixture of experts.
func (m *Model) Layers() (all, withExperts int) {
	for _, t := range m.file.TensorInfos {
		layer := layerOf(t.Name) + 1
		all = max(all, layer)
		if anyExperts.MatchString(t.Name) {
			withExperts = max(withExperts, layer)
		}
	}
	return all, withExperts
}

// layerOf is the layer that a tensor such as "blk.12.ffn_up_exps.weight" belongs to; -1 for none.
func layerOf(name string) int {
	rest, ok := strings.CutPrefix(name, "blk.")
	number, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 0 || n > 1<<16 {
		return -1
	}
	return n
}

// mapped is how much of the weights stays in the file's pages. Of the quantized ones, the CPU makes copies in an order that
// suits it, of which types depends on the processor: those count as copied.
func (m *Model) mapped(s Settings) uint64 {
	if s.Copied {
		return 0
	}
	var bytes uint64
	for _, t := range m.file.TensorInfos {
		if s.NoRepack || slices.Contains([]parser.GGMLType{parser.GGMLTypeF32, parser.GGMLTypeF16, parser.GGMLTypeBF16}, t.Type) {
			bytes += t.Bytes()
		}
	}
	return bytes
}

func (m *Model) options(s Settings) []parser.GGUFRunEstimateOption {
	options := []parser.GGUFRunEstimateOption{
		parser.WithParallelSize(int32(min(max(s.Slots, 1), math.MaxInt32))),
		parser.WithLLaMACppCacheKeyType(cacheType(s.KeyType)), parser.WithLLaMACppCacheValueType(cacheType(s.ValueType)),
	}
	if s.Context > 0 {
		options = append(options, parser.WithLLaMACppContextSize(int32(min(s.Context, math.MaxInt32))))
	}
	if s.Batch > 0 {
		options = append(options, parser.WithLLaMACppLogicalBatchSize(int32(min(s.Batch, math.MaxInt32))))
	}
	if s.MicroBatch > 0 || s.Batch > 0 { // never more than the logical one, as llama.cpp has it, too
		batch, micro := max(32, cmp.Or(s.Batch, 2048)), cmp.Or(s.MicroBatch, 512)
		options = append(options, parser.WithLLaMACppPhysicalBatchSize(int32(min(micro, batch, math.MaxInt32))))
	}
	if !s.NoFlash {
		options = append(options, parser.WithFlashAttention())
	}
	if s.KVOnHost {
		options = append(options, parser.WithoutLLaMACppOffloadKVCache())
	}
	if s.FullSWA {
		options = append(options, parser.WithLLaMACppFullSizeSWACache())
	}
	return options
}

// cacheTypes are those of llama-server's --cache-type-k.
var cacheTypes = map[string]parser.GGMLType{
	"f32": parser.GGMLTypeF32, "f16": parser.GGMLTypeF16, "bf16": parser.GGMLTypeBF16, "q8_0": parser.GGMLTypeQ8_0,
	"q4_0": parser.GGMLTypeQ4_0, "q4_1": parser.GGMLTypeQ4_1, "iq4_nl": parser.GGMLTypeIQ4_NL,
	"q5_0": parser.GGMLTypeQ5_0, "q5_1": parser.GGMLTypeQ5_1,
}

func cacheType(name string) parser.GGMLType {
	if t, ok := cacheTypes[name]; ok {
		return t
	}
	return parser.GGMLTypeF16
}

// fractions turns shares into the sums that gguf-parser wants: 3 and 1 are 0.75 and 1.
func fractions(shares []float64) []float64 {
	var all, sofar float64
	for _, s := range shares {
		all += max(s, 0)
	}
	if all == 0 {
		return fractions(slices.Repeat([]float64{1}, len(shares)))
	}
	sums := make([]float64, len(shares))
	for i, s := range shares {
		sofar += max(s, 0)
		sums[i] = min(sofar/all, 1)
	}
	sums[len(sums)-1] = 1
	return sums
}
