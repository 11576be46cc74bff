package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Tokens are those of which one has to be presented. The zero value has none. They cannot be had back from it.
type Tokens struct{ sums [][sha256.Size]byte }

// ReadTokens reads the tokens that a reference names: one of a variable, or of a file each line that is not empty and does not
// begin with "#", where a line alone is the token as it is. A relative path is the program's own.
func ReadTokens(from settings.SecretRef) (Tokens, error) {
	var keys secret.Keys
	var err error
	switch {
	case (from.FromEnv == "") == (from.FromFile == ""):
		err = errors.New("name either a variable or a file")
	case from.FromEnv != "":
		var key secret.Text
		key, err = secret.FromEnv(from.FromEnv)
		keys = secret.Keys{key}
	default:
		keys, err = secret.KeysFromFile(from.FromFile)
	}
	if err != nil {
		return Tokens{}, fmt.Errorf("cannot get the token of the HTTP face: %w", err)
	}
	var t Tokens
	for _, key := range keys {
		t.sums = append(t.sums, sha256.Sum256([]byte(key.Reveal())))
	}
	return t, nil
}

// presented reports whether a request has one of the tokens. How long that takes tells nothing about them.
func (t Tokens) presented(r *http.Request) bool {
	_, token, basic := r.BasicAuth()
	if scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " "); !basic && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	sum, same := sha256.Sum256([]byte(token)), 0
	for _, known := range t.sums {
		same |= subtle.ConstantTimeCompare(sum[:], known[:])
	}
	return same == 1
}

// known lets those pass who may see more than the probes and the metrics.
func (t Tokens) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case t.sums == nil && overLoopback(r), t.presented(r):
			next.ServeHTTP(w, r)
		case t.sums == nil:
			http.Error(w, "from another machine this needs a token, and none is configured", http.StatusForbidden)
		default: // a browser asks for a name, which does not matter, and a password
			w.Header().Set("WWW-Authenticate", `Basic realm="engine-provisioner: the token is the password", charset="UTF-8"`)
			http.Error(w, `present the token, as "Authorization: Bearer TOKEN" or as the password of any user`, http.StatusUnauthorized)
		}
	})
}

// local refuses what a page of elsewhere asks of this machine by a name of its own that it has had point here: DNS rebinding.
// Browsers name in Host whom they ask; an address cannot be made to point elsewhere, nor can this machine's own name. With a
// token there is no need: a browser gives it to no other name.
func (t Tokens) local(next http.Handler) http.Handler {
	own, _ := os.Hostname() // "" is no name that a browser asks for
	own = strings.ToLower(own)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t.sums == nil && overLoopback(r) && !isOwn(r.Host, own) {
			http.Error(w, "ask for localhost, or for this machine's address; other names are not served without a token", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isOwn(host, own string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	return name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") || name == own // in HTTP/1.0 there may be none
}

// overLoopback reports whether a request came in at an address that other machines do not reach.
func overLoopback(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && at.IP.IsLoopback()
}
