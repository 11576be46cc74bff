package secret

import (
	"slices"
	"testing"
)

func TestInEnvironment(t *testing.T) {
	t.Parallel()
	found := InEnvironment([]string{
		"HF_TOKEN=one", "HUGGING_FACE_HUB_TOKEN=two", "HTTPS_PROXY=http://me:p%40ss@proxy:3128", "all_proxy=socks5://me:four@proxy",
		"no_proxy=localhost,127.0.0.1", "http_proxy=http://proxy", "HTTP_PROXY=http://me@proxy", "FTP_PROXY=://", "_PROXY", "HF_TOKEN_PATH=/x",
		"HF_HUB_DISABLE_IMPLICIT_TOKEN=1", // every 1 of a message would be hidden
	})
	var got []string
	for _, s := range found {
		got = append(got, s.Reveal())
	}
	if want := []string{"one", "two", "p@ss", "four"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := NewRedactor(found...).Text("proxy http://me:p%40ss@proxy and p@ss, token one"); got != "proxy http://me:[redacted]@proxy and [redacted], token [redacted]" {
		t.Errorf("%q", got)
	}
}
