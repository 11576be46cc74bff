package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
)

// Seals tell later whether secrets are still what they were, and nothing else of them: they are digests under a key of their own, so
// that two launches with one secret have nothing in common. The zero value knows no secret.
type Seals struct {
	Salt []byte            `json:"salt,omitempty"`
	Of   map[string][]byte `json:"of,omitempty"` // by the configuration's key
}

// Seal seals secrets, by the configuration's key.
func Seal(secrets map[string]Keys) Seals {
	if len(secrets) == 0 {
		return Seals{}
	}
	s := Seals{Salt: make([]byte, 32), Of: map[string][]byte{}}
	_, _ = rand.Read(s.Salt) // it never fails (crypto/rand)
	for key, texts := range secrets {
		s.Of[key] = s.digest(key, texts)
	}
	return s
}

// Broken are the keys, sorted, whose secrets are others now. Those that were not sealed, or are not known now, say nothing.
func (s Seals) Broken(now map[string]Keys) []string {
	var broken []string
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if was, sealed := s.Of[key]; sealed && !hmac.Equal(was, s.digest(key, now[key])) {
			broken = append(broken, key)
		}
	}
	return broken
}

func (s Seals) digest(key string, texts Keys) []byte {
	h := hmac.New(sha256.New, s.Salt)
	h.Write([]byte(key + "\x00" + strings.Join(revealed(texts), "\x00")))
	return h.Sum(nil)
}

func revealed(texts Keys) []string {
	all := make([]string, len(texts))
	for i, t := range texts {
		all[i] = t.Reveal()
	}
	return all
}
