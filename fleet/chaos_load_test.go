package fleet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// crowd is a number of clients that stream from one engine without a pause, each an answer after the other.
type crowd struct {
	url    string
	tokens int
	enough atomic.Bool // nobody asks for another answer

	clients       sync.WaitGroup
	answered, cut atomic.Int64
	first         atomic.Pointer[string] // what happened to the first that was cut off
}

func gather(url string, clients, tokens int) *crowd {
	c := &crowd{url: url, tokens: tokens}
	for i := range clients {
		c.clients.Go(func() {
			for n := 0; !c.enough.Load(); n++ {
				if err := c.ask(fmt.Sprintf("client %d, question %d", i, n)); err != nil {
					text := err.Error()
					c.first.CompareAndSwap(nil, &text)
					c.cut.Add(1)
					return
				}
				c.answered.Add(1)
			}
		})
	}
	return c
}

// ask gets one whole answer.
func (c *crowd) ask(prompt string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without a limit: it is the engine that is slow
	body := fmt.Sprintf(`{"prompt":%q,"n_predict":%d,"stream":true,"ignore_eos":true,"cache_prompt":false}`, prompt, c.tokens)
	resp, err := client.Post(c.url+"/completion", "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Contains(text, []byte(`"stop":true`)) {
		err = fmt.Errorf("HTTP %d, and the answer ends with %.200q", resp.StatusCode, text[max(0, len(text)-200):])
	}
	return err
}

// ear asks an engine for its health again and again, and keeps how long it had no answer.
type ear struct {
	longest time.Duration
	stop    context.CancelFunc
	done    chan struct{}
}

func listenTo(url string) *ear {
	ctx, stop := context.WithCancel(context.Background())
	l := &ear{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		for last := time.Now(); ctx.Err() == nil; {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", http.NoBody)
			if err != nil {
				return
			}
			if resp, err := client.Do(request); err == nil {
				resp.Body.Close()
				last = time.Now()
			}
			l.longest = max(l.longest, time.Since(last))
		}
	}()
	return l
}

// silence is the longest time without an answer.
func (l *ear) silence() time.Duration {
	l.stop()
	<-l.done
	return l.longest
}

// An engine that has more clients than it can answer is kept: by liveness with its default settings, by the manager that
// comes after one that was killed or let go, and by a stop, which waits for all answers.
func TestChaosSaturated(t *testing.T) {
	t.Parallel()
	const clients = 16
	rounds, long := chaosCount(t, "CHAOS_LOAD", 1)
	wave := 3 * time.Second  // of load before the managers change, and after
	answer := wave / clients // that the idle engine is to need for one
	if long {
		wave = time.Minute
		answer = 45 * time.Second // nothing is answered meanwhile, for longer than liveness with its default has patience
	}
	cfg := realConfig(t, big)
	cfg.Flags = []string{"--ctx-size", "4096", "--parallel", "2", "--threads", "1"}
	c := rigFor(t, cfg)
	order := c.order
	order.Hold, order.Patient = true, true
	var kept, killed, released int
	var answered, cut int64
	var silence time.Duration
	var busy int // events
	for n := range rounds {
		manager, said, stderr := c.manager(t, order)
		for line := range said {
			if line == "ready" {
				break
			}
		}
		was, err := provisioner.ReadHandoff(c.files.Handoff())
		if err != nil {
			t.Fatalf("%v; the manager says:\n%s", err, stderr)
		}
		people := gather(was.URL, clients, tokensFor(t, was.URL, answer))
		watch := listenTo(was.URL)
		time.Sleep(wave + rand.N(time.Second)) // the load, not a synchronization

		if n%2 == 0 {
			killed++
			_ = manager.Process.Kill()
		} else {
			released++
			_ = manager.Process.Signal(os.Interrupt)
		}
		last := ""
		for line := range said {
			last = line
		}
		_ = manager.Wait()
		if n%2 == 1 && last != "released <nil>" {
			t.Errorf("round %d: the manager did not let go: %q\n%s", n, last, stderr)
		}

		events := &journal{}
		s, err := Open(bounded(t), Options{OnEvent: events.add, Launch: []provisioner.Option{order.cache()}}, order.config())
		if err == nil {
			err = s.WaitReady(bounded(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(wave)
		people.enough.Store(true) // each client waits for the answer that it has asked for
		now := s.Status()[0]
		if now.PID == was.Process.PID && now.State == provisioner.StateReady {
			kept++
		} else {
			t.Errorf("round %d: was pid %d, is pid %d, %s: %s", n, was.Process.PID, now.PID, now.State, events.notes())
		}
		silence = max(silence, watch.silence())
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("round %d: Stop: %v", n, err)
		}
		people.clients.Wait()
		answered += people.answered.Load()
		if lost := people.cut.Load(); lost > 0 {
			cut += lost
			t.Errorf("round %d: %d clients cut off, the first one with: %s", n, lost, *people.first.Load())
		}
		busy += strings.Count(events.notes(), "saturated")
		all, _ := c.processes()
		if len(all) > 0 {
			t.Errorf("round %d: processes left: %v", n, all)
		}
		c.noHandoff(t)
		c.noTemporaries(t)
	}
	t.Logf("chaos: saturated llama-server, %d clients on 2 slots: %d managers killed and %d let go: %d engines of %d kept, %d stopped with a drain; "+
		"%d answers, %d clients cut off; /health unanswered for up to %s, told %d times",
		clients, killed, released, kept, rounds, rounds, answered, cut, silence.Round(time.Second), busy)
}

// tokensFor is how many tokens the idle engine makes in this time.
func tokensFor(t *testing.T, url string, d time.Duration) int {
	t.Helper()
	const few = 16
	c := crowd{url: url, tokens: few}
	began := time.Now()
	if err := c.ask("how fast"); err != nil {
		t.Fatal(err)
	}
	return min(max(few, int(few*d/time.Since(began))), 1500) // what fits into a slot
}

// complete streams one completion to its end; began is closed with its first byte.
func complete(url string, began chan struct{}) error {
	first := func() { close(began) }
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(url+"/completion", "application/json", strings.NewReader(`{"prompt":"Hello","n_predict":100,"stream":true,"ignore_eos":true}`))
	if err != nil {
		first()
		return err
	}
	defer resp.Body.Close()
	one := make([]byte, 1)
	_, err = resp.Body.Read(one)
	first()
	if err != nil {
		return err
	}
	rest, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Contains(rest, []byte(`"stop":true`)) {
		err = fmt.Errorf("the answer ends with %.200q", rest[max(0, len(rest)-200):])
	}
	return err
}
