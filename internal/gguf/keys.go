package gguf

import (
	"fmt"
	"maps"
	"math"
	"slices"

	parser "github.com/gpustack/gguf-parser-go"
)

const (
	keyArchitecture = "general.architecture"
	keyType         = "general.type"
	keyAlignment    = "general.alignment"
	keyParts        = "split.count"
	keyTokenizer    = "tokenizer.ggml.model"
	keyTokens       = "tokenizer.ggml.tokens"
	keyMerges       = "tokenizer.ggml.merges"
)

// rule says what a key of an architecture holds, in every model that llama.cpp loads: it reads each with a fixed type
// (GGUFMeta::GKV in src/llama-model-loader.cpp) and ends when the file has another. The exception are numbers that become
// lists, one for each layer, when a model needs it; of those no rule says anything.
type rule struct {
	holds form
	most  uint64 // of a count; 0 means 32 bits, which is what llama.cpp reads
	lists bool   // the estimate knows what a list of numbers means, one for each layer
	flags bool   // the estimate knows what a list of truth values means, one for each layer
	plain bool   // the estimate does not look at it
}

type form int

const (
	aCount form = iota
	aNumber
	aFlag
	aText
)

// rules are those of the keys that the estimate depends on, by their names behind the architecture's, and of those beside
// them that every model has.
var rules = map[string]rule{
	"block_count":                       {most: maxLayers},
	"context_length":                    {},
	"embedding_length":                  {},
	"vocab_size":                        {},
	"feed_forward_length":               {lists: true},
	"expert_count":                      {},
	"expert_used_count":                 {},
	"expert_shared_count":               {},
	"expert_feed_forward_length":        {},
	"expert_shared_feed_forward_length": {},
	"nextn_predict_layers":              {},
	"full_attention_interval":           {},
	"pooling_type":                      {},

	"attention.head_count":             {lists: true},
	"attention.head_count_kv":          {lists: true},
	"attention.sliding_window":         {},
	"attention.sliding_window_pattern": {flags: true},
	"attention.shared_kv_layers":       {},
	"attention.key_length":             {},
	"attention.key_length_swa":         {},
	"attention.key_length_mla":         {},
	"attention.value_length":           {},
	"attention.value_length_swa":       {},
	"attention.value_length_mla":       {},
	"attention.q_lora_rank":            {},
	"attention.kv_lora_rank":           {},
	"attention.causal":                 {holds: aFlag},
	"decision.type":                    {holds: aText},

	"ssm.conv_kernel":        {},
	"ssm.inner_size":         {},
	"ssm.state_size":         {},
	"ssm.time_step_rank":     {},
	"ssm.group_count":        {},
	"shortconv.l_cache":      {},
	"kda.head_dim":           {},
	"wkv.head_size":          {},
	"rescale_every_n_layers": {},
	"time_mix_extra_dim":     {},
	"time_decay_extra_dim":   {},
	"token_shift_count":      {},

	"attention.layer_norm_epsilon":         {holds: aNumber, plain: true},
	"attention.layer_norm_rms_epsilon":     {holds: aNumber, plain: true},
	"rope.dimension_count":                 {plain: true},
	"rope.freq_base":                       {holds: aNumber, plain: true},
	"rope.freq_scale":                      {holds: aNumber, plain: true},
	"rope.scaling.type":                    {holds: aText, plain: true},
	"rope.scaling.factor":                  {holds: aNumber, plain: true},
	"rope.scaling.original_context_length": {plain: true},
}

// String is a value as a message tells it.
func (v value) String() string {
	switch {
	case v.negative():
		return fmt.Sprint(int64(v.number))
	case v.kind.whole():
		return fmt.Sprint(v.number)
	}
	return v.kind.String()
}

// check is the objection to a value that no engine takes, or "".
func (r rule) check(v value) string {
	most := r.most
	if most == 0 {
		most = math.MaxUint32
	}
	switch {
	case v.kind == kindArray && v.of == kindString && r.holds != aText:
		return "is a list of text instead of a number"
	case v.kind == kindArray && v.count > maxLayers:
		return fmt.Sprintf("is a list of %d, and no model has more than %d layers", v.count, maxLayers)
	case v.kind == kindArray:
	case r.holds == aCount && (!v.kind.whole() || v.negative()):
		return fmt.Sprintf("is %s instead of a whole number", v)
	case r.holds == aCount && v.number > most:
		return fmt.Sprintf("is %d, and no engine takes more than %d", v.number, most)
	case r.holds == aNumber && !v.kind.whole() && !v.kind.real():
		return fmt.Sprintf("is %s instead of a number", v)
	case r.holds == aFlag && v.kind != kindBool:
		return fmt.Sprintf("is %s instead of a truth value", v)
	case r.holds == aText && v.kind != kindString:
		return fmt.Sprintf("is %s instead of text", v)
	}
	return ""
}

// check refuses what no engine can read.
func (h *header) check() error {
	for _, key := range []string{keyArchitecture, keyType} {
		if v, ok := h.keys[key]; ok && v.kind != kindString {
			return fmt.Errorf("%w: key %q is %s instead of text", ErrFormat, key, v)
		}
	}
	prefix := h.keys[keyArchitecture].text + "."
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		v, ok := h.keys[prefix+name]
		if !ok {
			continue
		}
		if objection := rules[name].check(v); objection != "" {
			return fmt.Errorf("%w: key %q %s", ErrFormat, prefix+name, objection)
		}
	}
	return nil
}

// estimable is what the library shall see of a checked header: the keys that it computes with, each of a type that it
// takes. ok is false when a key means something that it does not know.
func (h *header) estimable() (keys parser.GGUFMetadataKVs, ok bool) {
	arch := h.keys[keyArchitecture].text
	if arch == "" || arch == "clip" || arch == "controlvector" {
		return nil, false // it is no language model
	}
	if kind, ok := h.keys[keyType]; ok && kind.text != "model" {
		return nil, false
	}
	keys = append(keys, parser.GGUFMetadataKV{Key: keyArchitecture, ValueType: parser.GGUFMetadataValueTypeString, Value: arch})
	for name, rule := range rules {
		v, there := h.keys[arch+"."+name]
		if !there || rule.plain {
			continue
		}
		kv, known := v.forParser(rule)
		if !known {
			return nil, false
		}
		kv.Key = arch + "." + name
		keys = append(keys, kv)
	}
	if v := h.keys[keyTokenizer]; v.kind == kindString {
		keys = append(keys, parser.GGUFMetadataKV{Key: keyTokenizer, ValueType: parser.GGUFMetadataValueTypeString, Value: v.text})
	}
	for _, key := range []string{keyTokens, keyMerges} { // that many
		if v := h.keys[key]; v.kind == kindArray {
			words := parser.GGUFMetadataKVArrayValue{Type: parser.GGUFMetadataValueTypeString, Len: v.count}
			keys = append(keys, parser.GGUFMetadataKV{Key: key, ValueType: parser.GGUFMetadataValueTypeArray, Value: words})
		}
	}
	return keys, true
}

// forParser makes of every number one of 32 bits, which all accessors of the library take.
func (v value) forParser(r rule) (kv parser.GGUFMetadataKV, known bool) {
	switch v.kind {
	case kindBool:
		return parser.GGUFMetadataKV{ValueType: parser.GGUFMetadataValueTypeBool, Value: v.number != 0}, true
	case kindString:
		return parser.GGUFMetadataKV{ValueType: parser.GGUFMetadataValueTypeString, Value: v.text}, true
	case kindArray:
		list, known := v.listForParser(r)
		return parser.GGUFMetadataKV{ValueType: parser.GGUFMetadataValueTypeArray, Value: list}, known
	}
	return parser.GGUFMetadataKV{ValueType: parser.GGUFMetadataValueTypeUint32, Value: uint32(v.number)}, true
}

func (v value) listForParser(r rule) (list parser.GGUFMetadataKVArrayValue, known bool) {
	if !r.lists && !r.flags || len(v.list) == 0 || !v.of.whole() && !(r.flags && v.of == kindBool) {
		return list, false
	}
	list = parser.GGUFMetadataKVArrayValue{Type: parser.GGUFMetadataValueTypeUint32, Len: v.count}
	if r.flags {
		list.Type = parser.GGUFMetadataValueTypeBool
	}
	for _, e := range v.list {
		switch {
		case e.negative() || e.number > math.MaxUint32:
			return list, false
		case r.flags:
			list.Array = append(list.Array, e.number != 0)
		default:
			list.Array = append(list.Array, uint32(e.number))
		}
	}
	return list, true
}
