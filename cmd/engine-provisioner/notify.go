package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// notifier tells the service manager that started this program how it is, by systemd's protocol of one datagram a
// message. Without such a manager it does nothing.
type notifier struct {
	conn net.Conn // nil: nobody listens
	beat *time.Ticker
	told string // the last status

	extended time.Time // when more time to start was last asked for
}

// newNotifier finds the service manager in the environment. The engines do not see it there: their environment is a
// list of their own.
func newNotifier() (*notifier, error) {
	n := &notifier{}
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return n, nil
	}
	conn, err := net.Dial("unixgram", socket) // "@" begins the name of an abstract one here, too
	if err != nil {
		return n, fmt.Errorf("cannot reach the service manager: %w; it will take this program for hung", err)
	}
	n.conn = conn
	if interval := watchdogInterval(); interval > 0 {
		n.beat = time.NewTicker(interval)
	}
	return n, nil
}

// watchdogInterval is half of what the service manager waits for a sign of life; 0 when it does not, or waits for
// another process's.
func watchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// due says when the next sign of life is due. Whoever does the work waits for it and then calls alive: a goroutine
// beside the work would report life that there is not.
func (n *notifier) due() <-chan time.Time {
	if n.beat == nil {
		return nil
	}
	return n.beat.C
}

func (n *notifier) alive()              { n.send("WATCHDOG=1") }
func (n *notifier) ready(status string) { n.tell("READY=1\n", status) }
func (n *notifier) stopping()           { n.tell("STOPPING=1\n", "stopping") }
func (n *notifier) status(text string)  { n.tell("", text) }

// preparing asks for more time to start, since a download or a build goes on: as much as the start may take after it.
func (n *notifier) preparing(start time.Duration) {
	if now := time.Now(); now.Sub(n.extended) >= start/10 {
		n.extended = now
		n.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", start.Microseconds()))
	}
}

func (n *notifier) tell(state, status string) {
	if state == "" && status == n.told {
		return
	}
	n.told = status
	n.send(state + "STATUS=" + status)
}

// send is bounded: a manager that does not read must not hold up the work. There is nobody to tell of a failure but
// the manager itself.
func (n *notifier) send(message string) {
	if n.conn == nil {
		return
	}
	_ = n.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = n.conn.Write([]byte(message))
}

func (n *notifier) close() {
	if n.beat != nil {
		n.beat.Stop()
	}
	if n.conn != nil {
		n.conn.Close()
	}
}
