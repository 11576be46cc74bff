package provisioner

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/witness"
	"github.com/llama-orch/engine-provisioner/settings"
)

func dialError(errno syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
}

// What goes wrong on this side says nothing of the engine: clients that have taken all ports are a reason to serve on.
func TestWhatAnAnswerAmountsTo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		err    error
		want   life.Answer
	}{
		"200":           {200, nil, life.Fine},
		"429":           {429, nil, life.Silence},
		"500":           {500, nil, life.Mistaken},
		"another key":   {401, nil, life.Fine},
		"no time":       {0, probe.ErrNoAnswer, life.Silence},
		"refused":       {0, dialError(syscall.ECONNREFUSED), life.Refused},
		"reset":         {0, dialError(syscall.ECONNRESET), life.Refused},
		"cut":           {200, io.ErrUnexpectedEOF, life.Refused},
		"all ports":     {0, dialError(syscall.EADDRNOTAVAIL), life.Unasked},
		"all files":     {0, dialError(syscall.EMFILE), life.Unasked},
		"a firewall":    {0, dialError(syscall.EPERM), life.Unasked},
		"broken answer": {0, errors.New("malformed HTTP response"), life.Refused},
	} {
		if got, said := probe.Answered(probe.Answer{Status: test.status}, probe.PlainError(test.err)); got != test.want {
			t.Errorf("%s: %d (%s)", name, got, said)
		}
	}
}

// portless lets the first questions of a prober find no port.
func portless(p *probe.Prober, questions int64) *probe.Prober {
	transport := p.Client.Transport.(*http.Transport).Clone()
	dial := transport.DialContext
	var left atomic.Int64
	left.Store(questions)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if left.Add(-1) >= 0 {
			return nil, dialError(syscall.EADDRNOTAVAIL)
		}
		return dial(ctx, network, address)
	}
	other, client := *p, *p.Client
	client.Transport, other.Client = transport, &client
	return &other
}

func TestQuestionsThatDoNotGetOut(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	ask := p.run.prober(settings.Duration(5 * time.Second))
	spec := p.run.rec.Launch.Spec
	if offered, err := portless(ask, 2).AskToken(bounded(t), probe.Token{Path: spec.Answer.Path, Body: spec.Answer.Body, Must: true}); err != nil || !offered {
		t.Errorf("a token: %t, %v", offered, err)
	}
	asked := 0
	err := portless(ask, 2).UntilAnswered(bounded(t), time.Now(), func(string) {}, func(ask *probe.Prober) error {
		asked++
		_, err := p.checkIdentity(t.Context(), ask, p.run)
		return err
	})
	if err != nil || asked != 3 {
		t.Errorf("its identity: %v after %d questions", err, asked)
	}
	see := witness.New(p.run.seen(), portless(ask, 1<<40), 0)
	judge := life.New(life.Limits{Failures: 1, WedgedAfter: time.Nanosecond})
	for range 3 {
		if v := judge.See(time.Now(), see.Look(t.Context())); v.Life != life.Working {
			t.Errorf("%+v", v)
		}
	}
	// One that did not get out, and one that had a part of the time: the engine has not failed.
	ctx, cancel := context.WithCancelCause(t.Context())
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // before that a server does not see a client go
		cancel(probe.ErrNoAnswer)
		<-r.Context().Done()
	}))
	t.Cleanup(hanging.Close)
	at := hanging.Listener.Addr().(*net.TCPAddr)
	slow := portless(probe.New(at.IP.String(), at.Port, secret.Text{}, time.Minute), 1)
	if _, err := slow.AskToken(ctx, probe.Token{Path: spec.Answer.Path, Body: spec.Answer.Body}); !probe.Unasked(err) || !errors.Is(err, probe.ErrNoAnswer) {
		t.Errorf("a question that had a part of the time: %v", err)
	}
	c := p.run.seen().LastChance(t.Context(), portless(ask, 1<<40), 300*time.Millisecond)
	var f life.Facts
	eventually(t, "it is over", func() bool { return c.Add(&f) })
	if f.Token != life.TokenCame {
		t.Errorf("%+v", f)
	}
}
