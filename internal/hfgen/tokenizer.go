package hfgen

// The vocabulary is one token for each byte, so that any text can be tokenized, and two special tokens.
const (
	bos            = 256
	eos            = 257
	vocabularySize = 258

	bosText = "<s>"
	eosText = "</s>"
)

// chatTemplate is Jinja: one line for each message.
const chatTemplate = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}" +
	"{% if add_generation_prompt %}assistant: {% endif %}"

func (p Params) tokenizerConfig() map[string]any {
	return map[string]any{
		"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": p.Context,
		"bos_token": bosText, "eos_token": eosText, "chat_template": chatTemplate,
	}
}

// tokenizer is a byte-level BPE without merges, as https://huggingface.co/docs/tokenizers writes it.
func tokenizer() map[string]any {
	vocabulary := map[string]int{bosText: bos, eosText: eos}
	for b, r := range byteAlphabet() {
		vocabulary[string(r)] = b
	}
	special := func(id int, text string) map[string]any {
		return map[string]any{
			"id": id, "content": text, "special": true,
			"single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
		}
	}
	byteLevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	return map[string]any{
		"version":        "1.0",
		"truncation":     nil,
		"padding":        nil,
		"added_tokens":   []any{special(bos, bosText), special(eos, eosText)},
		"normalizer":     nil,
		"pre_tokenizer":  byteLevel,
		"post_processor": nil,
		"decoder":        byteLevel,
		"model": map[string]any{
			"type": "BPE", "vocab": vocabulary, "merges": []string{}, "dropout": nil, "unk_token": nil,
			"continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
		},
	}
}

// byteAlphabet is GPT-2's mapping of bytes to characters that can be seen: those that cannot come after the others,
// from U+0100 on.
func byteAlphabet() [256]rune {
	var alphabet [256]rune
	next := rune(256)
	for b := range alphabet {
		r := rune(b)
		if (r >= '!' && r <= '~') || (r >= '¡' && r <= '¬') || (r >= '®' && r <= 'ÿ') {
			alphabet[b] = r
			continue
		}
		alphabet[b] = next
		next++
	}
	return alphabet
}
