package fetch

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/bytesize"
)

// transfer brings one file.
type transfer struct {
	File
	requester
	probing requester // for the first question, which a person waits for
	anyETag bool      // it has changed without a reason that can be seen
}

func newTransfer(f File) *transfer {
	t := &transfer{
		File:      f,
		probing:   newRequester(f.Token, 4, f.retryFloor, f.Stall),
		requester: newRequester(f.Token, 8, f.retryFloor, f.Stall),
	}
	t.least, t.within = f.MinPerMinute, f.minute
	return t
}

func (d *transfer) close() {
	d.probing.close()
	d.requester.close()
}

// source is what the server says of the file.
type source struct {
	size   int64 // -1 where it does not say
	etag   string
	ranges bool // whether it gives parts of the file
}

// probe asks for one byte. A HEAD would do less well: storage behind signed URLs often refuses it.
func (d *transfer) probe(ctx context.Context) (source, error) {
	resp, err := d.probing.get(ctx, d.URL, rangeHeader(0, 1))
	if err != nil {
		return source{}, err
	}
	defer resp.Body.Close()
	src := source{size: resp.ContentLength, etag: resp.Header.Get("Etag")}
	if resp.StatusCode == http.StatusPartialContent {
		var from, to int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &src.size); err == nil && src.size > 0 {
			src.ranges = true
		} else {
			src.size = -1 // such as "bytes 0-0/*"
		}
	}
	return src, nil
}

// split makes at most 64 ranges, so that a large file takes few requests, and of at least least bytes.
func (s source) split(least int64) []*byteRange {
	if !s.ranges {
		return []*byteRange{{to: s.size, whole: make(chan struct{})}}
	}
	const most = 64
	size := max((s.size+most-1)/most, least)
	var ranges []*byteRange
	for from := int64(0); from < s.size; from += size {
		ranges = append(ranges, &byteRange{from: from, to: min(from+size, s.size), whole: make(chan struct{})})
	}
	return ranges
}

func rangeHeader(from, to int64) http.Header {
	return http.Header{
		"Range": {fmt.Sprintf("bytes=%d-%d", from, to-1)},
		// Otherwise net/http asks for compressed bytes, and ranges would count those.
		"Accept-Encoding": {"identity"},
	}
}

// run brings what is missing and returns the checksum of all. What came is noted for another run when it fails.
func (d *transfer) run(ctx context.Context, src source, p *part) (Digest, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan *byteRange, len(p.ranges))
	for _, r := range p.ranges {
		queue <- r
	}
	close(queue)
	var workers sync.WaitGroup
	for range min(d.Connections, len(p.ranges)) {
		workers.Go(func() {
			for r := range queue {
				if err := d.bring(ctx, src, p, r); err != nil {
					cancel(err)
					return
				}
				close(r.whole)
			}
		})
	}
	var told sync.WaitGroup
	finished := make(chan struct{})
	told.Go(func() { d.tell(src, p, finished) })

	h := d.Digest.hash(max(src.size, d.Size))
	err := hashRanges(ctx, h, p)
	if err != nil {
		cancel(err)
		err = context.Cause(ctx)
	}
	workers.Wait()
	close(finished)
	told.Wait()
	if err != nil {
		return "", errors.Join(err, p.save())
	}
	return d.Digest.of(h), nil
}

// hashRanges computes the checksum while later ranges are still on their way: sha256 of a large file takes seconds.
func hashRanges(ctx context.Context, h hash.Hash, p *part) error {
	for _, r := range p.ranges {
		select {
		case <-r.whole:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		const step = 8 << 20
		for from, to := r.from, r.from+r.done.Load(); from < to; from += step {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if _, err := io.Copy(h, io.NewSectionReader(p.file, from, min(step, to-from))); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell reports progress, and notes it for another run, until finished is closed.
func (d *transfer) tell(src source, p *part, finished <-chan struct{}) {
	const period, saves = 200 * time.Millisecond, 10
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	start, first := time.Now(), p.done()
	last, before := start, first
	rate := 0.0
	for n := 1; ; n++ {
		select {
		case <-finished:
			if took := time.Since(start).Seconds(); took > 0 {
				rate = float64(p.done()-first) / took
			}
			d.Progress(Progress{Done: p.done(), Total: max(src.size, d.Size, 0), Rate: rate})
			return
		case now := <-ticker.C:
			done := p.done()
			current := max(0, float64(done-before)/now.Sub(last).Seconds())
			if n == 1 {
				rate = current
			}
			rate += (current - rate) / 10 // about the last two seconds
			last, before = now, done
			d.Progress(Progress{Done: done, Total: max(src.size, d.Size, 0), Rate: rate})
			if n%saves == 0 {
				_ = p.save() // it only costs what a killed run had got since
			}
		}
	}
}

// bring fills a range. A connection that breaks is made anew for the rest, as long as that brings something, and enough.
func (d *transfer) bring(ctx context.Context, src source, p *part, r *byteRange) error {
	for fruitless := 0; ; {
		before := r.done.Load()
		if r.to >= 0 && r.from+before == r.to {
			return nil
		}
		err := d.stream(ctx, src, p, r)
		var cut *brokenError
		if !errors.As(err, &cut) {
			return err
		}
		var slow *slowError
		if fruitless++; r.done.Load() > before && !errors.As(err, &slow) {
			fruitless = 0
		}
		if fruitless == 5 {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(d.retryFloor << fruitless):
		}
	}
}

// errChanged says that the file at the URL is not what it was when the download began.
var errChanged = errors.New("the file was replaced on the server meanwhile")

// stream makes one request for what is missing of a range.
func (d *transfer) stream(ctx context.Context, src source, p *part, r *byteRange) error {
	from := r.from + r.done.Load()
	header := rangeHeader(from, r.to)
	if !src.ranges {
		from = 0
		r.done.Store(0)
		header.Del("Range")
	} else if strings.HasPrefix(src.etag, `"`) && !d.anyETag { // a weak one does not tell the bytes
		header.Set("If-Range", src.etag)
	}
	resp, err := d.get(ctx, d.URL, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if src.ranges {
		var at, to, size int64
		_, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &at, &to, &size)
		if resp.StatusCode != http.StatusPartialContent || err == nil && size != src.size {
			return errChanged
		}
		if err != nil || at != from {
			return fmt.Errorf("the server gives other bytes than those asked for (%q)", resp.Header.Get("Content-Range"))
		}
	}
	end := r.to
	if end < 0 {
		end = d.MaxSize + 1
	}
	buf := make([]byte, 256<<10)
	for at := from; at < end; {
		n, err := resp.Body.Read(buf[:min(int64(len(buf)), end-at)])
		if n > 0 {
			if _, err := p.file.WriteAt(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
			r.done.Add(int64(n))
		}
		switch {
		case err == nil || at == r.to:
		case errors.Is(err, io.EOF) && r.to < 0:
			return nil
		case errors.Is(err, io.EOF):
			return &brokenError{io.ErrUnexpectedEOF}
		default:
			return err
		}
	}
	if r.to < 0 {
		return fmt.Errorf("it has more than the %s that are allowed", bytesize.Decimal(d.MaxSize))
	}
	return nil
}
