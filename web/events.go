package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxStreams is how many readers are served at a time: each costs a goroutine and up to 256 events.
	maxStreams = 64
	// quiet is after how long a stream says that it is still there: proxies close what is silent for a minute.
	quiet = 15 * time.Second
)

// events is the stream of events, as server-sent events whose ids are the events' numbers. It begins after the number of the
// header Last-Event-ID, which browsers send when they come again, or of ?after=, or with what is kept of the time that ?since=
// names, such as 15m; without, or when that number is not of this fleet, with a snapshot.
func (s *face) events(w http.ResponseWriter, r *http.Request) {
	from, err := beginning(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, fmt.Sprintf("%d streams are served already; try again later", maxStreams), http.StatusServiceUnavailable)
		return
	}
	to := stream{w: w, control: http.NewResponseController(w), patience: s.patience}
	_ = to.control.SetReadDeadline(time.Time{}) // the server's, for the request, would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events until there are 4 KiB of them
	if now := s.snapshot(); from.now || from.after > now.Seq {
		from.after = now.Seq
		if to.send("snapshot", now.Seq, now) != nil {
			return
		}
	} else if to.write(":\n\n") != nil { // the headers: who waits for the first event knows that it is connected
		return
	}
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	events := s.fleet.EventsAfter(r.Context(), from.after)
	for {
		select {
		case e, ok := <-events:
			if ok && e.Time.Before(from.since) {
				continue
			}
			if !ok || to.send("", e.Seq, e) != nil {
				return
			}
			tick.Reset(quiet)
		case <-tick.C:
			if to.write(":\n\n") != nil {
				return
			}
		}
	}
}

// start is where a stream begins.
type start struct {
	now   bool      // nothing of before is asked for
	after uint64    // the number of an event
	since time.Time // zero for no limit
}

func beginning(r *http.Request) (start, error) {
	query := r.URL.Query()
	if text := cmp.Or(r.Header.Get("Last-Event-ID"), query.Get("after")); text != "" {
		after, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return start{}, fmt.Errorf("cannot go on after event %q: write the number of an event", text)
		}
		return start{after: after}, nil
	}
	if text := query.Get("since"); text != "" {
		ago, err := time.ParseDuration(text)
		if err != nil || ago < 0 {
			return start{}, fmt.Errorf("cannot begin %q ago: write a time such as 15m", text)
		}
		return start{since: time.Now().Add(-ago)}, nil
	}
	return start{now: true}, nil
}

// stream is one reader of server-sent events.
type stream struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
}

// send sends one event; without a number, as progress is, it leaves the reader's last one as it is.
func (s stream) send(event string, id uint64, v any) error {
	data, err := json.Marshal(v) // has no line breaks
	if err != nil {
		return err
	}
	text := "data: " + string(data) + "\n\n"
	if id != 0 {
		text = fmt.Sprintf("id: %d\n", id) + text
	}
	if event != "" {
		text = "event: " + event + "\n" + text
	}
	return s.write(text)
}

// write is bounded: who does not read is let go, and can come again for what it has missed.
func (s stream) write(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.patience)) // where there is none, there is no connection to wait for
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
