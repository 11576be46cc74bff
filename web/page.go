package web

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
)

// page is all of it: it asks for what is beside it, and nothing of elsewhere.
//
//go:embed page.html
var page string

// pagePolicy lets a browser run what is in the page, ask this server, and do nothing else, whatever a log or an error says.
var pagePolicy = sync.OnceValue(func() string {
	return "default-src 'none'; connect-src 'self'; img-src data:; script-src " + hashed("script") + "; style-src " + hashed("style") +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
})

// hashed names the only element of that name by its content.
func hashed(element string) string {
	_, text, _ := strings.Cut(page, "<"+element+">")
	text, _, _ = strings.Cut(text, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy())
	_, _ = w.Write([]byte(page))
}
