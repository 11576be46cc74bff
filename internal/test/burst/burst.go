// Package burst is a load that a llama-server does not answer for a while: more clients at once than it has threads for.
//
// Tests of the root and of fleet call it, and nothing else.
package burst

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Burst is clients that stream from a llama-server at once, more than it has threads for.
type Burst struct {
	sync.WaitGroup
	Connected atomic.Int64
	Answered  atomic.Int64 // in full
	Cut       atomic.Int64
}

// Clients is how many they are.
const Clients = 16

// Start has each client send so many requests for n tokens, one after the other, or requests without end until ctx ends. What is
// refused or answered with an error, as by a server that loads, is sent again.
func Start(ctx context.Context, url string, requests, n int) *Burst {
	b := &Burst{}
	for i := range Clients {
		b.Go(func() {
			client := http.Client{Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					if err == nil {
						b.Connected.Add(1)
					}
					return conn, err
				},
			}}
			for sent := 0; ctx.Err() == nil && (requests == 0 || sent < requests); {
				body := fmt.Sprintf(`{"prompt":"%s %d","n_predict":%d,"stream":true,"ignore_eos":true}`, strings.Repeat("word ", 20), i, n)
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/completion", strings.NewReader(body))
				if err != nil {
					return
				}
				resp, err := client.Do(req)
				if err != nil && (requests == 0 || sent > 0) {
					time.Sleep(50 * time.Millisecond)
					continue
				}
				sent++
				if err != nil {
					b.Cut.Add(1)
					continue
				}
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				switch {
				case resp.StatusCode != http.StatusOK:
					time.Sleep(10 * time.Millisecond)
				case err == nil && bytes.Contains(text, []byte(`"stop":true`)):
					b.Answered.Add(1)
				default:
					b.Cut.Add(1)
				}
			}
		})
	}
	return b
}
