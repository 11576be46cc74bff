package hook

import (
	"net/url"
	"strconv"
	"strings"
)

// Replica is what the placeholders of a request stand for.
type Replica struct {
	Pool, Replica string
	URL           string // where the engine is, such as "http://127.0.0.1:8081"
	Port          int
}

// Fill fills in the placeholders of a body.
func (r Replica) Fill(text string) string { return r.fill(text, r.URL) }

// Address fills in those of an address. What is not its beginning is escaped.
func (r Replica) Address(text string) string { return r.fill(text, url.QueryEscape(r.URL)) }

func (r Replica) fill(text, address string) string {
	head := ""
	if rest, begins := strings.CutPrefix(text, "{url}"); begins {
		head, text = r.URL, rest
	}
	return head + strings.NewReplacer(
		"{pool}", r.Pool, "{replica}", r.Replica, "{url}", address, "{port}", strconv.Itoa(r.Port),
	).Replace(text)
}
