package ggufgen

import "fmt"

// Token types of a SentencePiece vocabulary.
const (
	tokenNormal  = 1
	tokenUnknown = 2
	tokenControl = 3
	tokenByte    = 6
)

type token struct {
	text string
	kind int32
}

// words is how many words the vocabulary has.
const words = 260

// vocabulary is the least that llama.cpp takes, three special tokens, and one for each byte, so that any text can be tokenized;
// and words to answer with, such as "q7 ". No text is read as one of those, since no two bytes of it are joined to a token.
func vocabulary() []token {
	tokens := []token{{"<unk>", tokenUnknown}, {"<s>", tokenControl}, {"</s>", tokenControl}}
	for b := range 256 {
		tokens = append(tokens, token{fmt.Sprintf("<0x%02X>", b), tokenByte})
	}
	for w := range words {
		tokens = append(tokens, token{fmt.Sprintf("%c%d ", 'a'+w/10, w%10), tokenNormal})
	}
	return tokens
}
