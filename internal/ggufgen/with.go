package ggufgen

import "encoding/binary"

// With is a model of a few hundred bytes in which one key has the value that is given, with its type before it.
func With(key string, value []byte) []byte {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	number := func(n uint32) []byte { return le.AppendUint32(le.AppendUint32(nil, 4), n) }
	out := le.AppendUint64(le.AppendUint64(le.AppendUint32([]byte("GGUF"), 3), 1), 6)
	for _, kv := range []struct {
		key   string
		value []byte
	}{
		{"general.architecture", text(le.AppendUint32(nil, 8), "llama")},
		{"llama.embedding_length", number(64)},
		{"llama.attention.head_count", number(2)},
		{"llama.feed_forward_length", number(64)},
		{"llama.block_count", number(2)},
		{"llama.context_length", number(2048)},
	} {
		if kv.key == key {
			kv.value = value
		}
		out = append(text(out, kv.key), kv.value...)
	}
	out = le.AppendUint32(text(out, "token_embd.weight"), 2)
	out = le.AppendUint64(le.AppendUint32(le.AppendUint64(le.AppendUint64(out, 8), 8), 0), 0)
	return append(out, make([]byte, -len(out)&31+256)...)
}
