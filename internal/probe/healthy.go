package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// AwaitHealthy asks the health path until it says 200, which may take hours. 503 and other server errors, refused and
// broken connections mean that the engine is loading; any other answer means that this is not the engine's health
// path. Questions are no closer than takes, which is what the engine needs for a healthy answer. heard is told of every
// answer that is not yet 200. It returns ctx's cause when that is done first.
func (p *Prober) AwaitHealthy(ctx context.Context, path string, takes time.Duration, since time.Time, heard func(string)) error {
	var fatal error
	own := *p.Client
	client := &retryablehttp.Client{
		HTTPClient: &own,
		RetryMax:   math.MaxInt, // ctx is the bound
		CheckRetry: func(_ context.Context, resp *http.Response, err error) (bool, error) {
			if ctx.Err() != nil {
				return false, context.Cause(ctx)
			}
			if err != nil {
				if err = PlainError(err); errors.Is(err, ErrNoAnswer) {
					own.Timeout = p.Longer(own.Timeout)
				}
				heard(err.Error())
				return true, nil
			}
			a, unread := p.read(resp, MaxHealthBody)
			switch {
			case ctx.Err() != nil:
				return false, context.Cause(ctx)
			case unread != nil:
				heard(a.String() + ", " + unread.Error())
				return true, nil //nolint:nilerr // asking again is what is done about it
			case a.Status == http.StatusOK:
				return false, nil
			}
			heard(a.String())
			fatal = p.unauthorized(path, a)
			if fatal == nil && a.Status < 500 && a.Status != http.StatusTooManyRequests {
				fatal = fmt.Errorf("%s answers %s; it is not this engine's health path, or not this engine", path, a)
			}
			return fatal == nil, nil
		},
		Backoff: func(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
			return max(Interval(time.Since(since)), takes)
		},
	}
	req, err := p.request(ctx, http.MethodGet, path, "")
	if err != nil {
		return err
	}
	retryable, err := retryablehttp.FromRequest(req)
	if err != nil {
		return err
	}
	resp, err := client.Do(retryable)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	resp.Body.Close()
	return fatal
}

// Interval is the time between two questions to an engine that has been loading for elapsed: about 1 % of it, so
// that a short load is seen at once and a long one is not disturbed.
func Interval(elapsed time.Duration) time.Duration {
	return min(max(elapsed/100, 2*time.Millisecond), 250*time.Millisecond)
}

// UntilAnswered asks a question again for as long as it gets no answer in time, as the health path is asked: an engine
// that compiles its kernels, or a busy machine, can be slow for a while. Any answer is taken, a wrong one, too. It
// returns ctx's cause when that is done first.
func (p *Prober) UntilAnswered(ctx context.Context, since time.Time, heard func(string), ask func(*Prober) error) error {
	for timeout := p.Timeout; ; timeout = p.Longer(timeout) {
		err := ask(p.Within(timeout))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			heard(Answer{Status: http.StatusOK}.String())
			return nil
		case !errors.Is(err, ErrNoAnswer):
			return err
		}
		heard(err.Error())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(Interval(time.Since(since))):
		}
	}
}
