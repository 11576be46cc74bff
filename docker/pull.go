package docker

import (
	"context"
	"time"

	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/launch"
)

// tellEvery is how often the progress of a pull is told.
const tellEvery = 250 * time.Millisecond

// layer is how far one part of an image is.
type layer struct{ done, total int64 }

// pull pulls an image with the login that is kept for it.
func (r *runtime) pull(ctx context.Context, ref string, tell func(launch.Progress)) error {
	l := findLogin(ctx, ref, r.podman)
	header, err := l.header()
	if err != nil {
		return err
	}
	if err := r.pullAs(ctx, ref, header, tell); err != nil {
		return l.explain(ref, err)
	}
	return nil
}

// pullAs tells how far it is, over all layers.
func (r *runtime) pullAs(ctx context.Context, ref, header string, tell func(launch.Progress)) error {
	stream, err := r.api.ImagePull(ctx, ref, client.ImagePullOptions{RegistryAuth: header})
	if err != nil {
		return err
	}
	defer stream.Close()
	layers := map[string]layer{}
	began, told := time.Now(), time.Time{}
	for m, err := range stream.JSONMessages(ctx) {
		switch {
		case err != nil:
			return err
		case m.Error != nil:
			return m.Error
		}
		if m.Progress == nil || m.Status != "Downloading" {
			if l, known := layers[m.ID]; known { // what comes after the download
				layers[m.ID] = layer{l.total, l.total}
			}
			continue
		}
		layers[m.ID] = layer{m.Progress.Current, m.Progress.Total}
		if now := time.Now(); now.Sub(told) >= tellEvery {
			told = now
			tell(progressOf(ref, layers, now.Sub(began)))
		}
	}
	return ctx.Err()
}

// progressOf sums up the layers. Their number is not known before the last one has begun, so the total grows.
func progressOf(ref string, layers map[string]layer, since time.Duration) launch.Progress {
	p := launch.Progress{What: ref}
	for _, l := range layers {
		p.Done += l.done
		p.Total += l.total
	}
	if since > 0 {
		p.Rate = float64(p.Done) / since.Seconds()
	}
	if p.Rate > 0 {
		p.Remaining = float64(p.Total-p.Done) / p.Rate
	}
	return p
}
