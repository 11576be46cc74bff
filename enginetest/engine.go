package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// engine is one running fake engine.
type engine struct {
	b        Behavior
	profile  profile
	about    about
	cookie   string
	argv     []string
	opts     options
	began    time.Time
	children []int
	parts    []*member // of the engine's own tree
	parent   *link     // to the process that started this one, for a part that serves
	keep     []any     // what must stay referenced while the engine runs

	listener net.Listener
	server   *http.Server
	ready    atomic.Bool
	dead     atomic.Bool   // what computes is gone, and the web server is still there
	draining atomic.Bool   // told to end, and finishing what is in flight
	hung     atomic.Bool   // by order: nothing is answered any more
	failing  atomic.Int64  // by order: the status of every health check; 0 for none
	wedge    func()        // by order: closes wedged
	wedged   chan struct{} // closed when no completion is answered any more
	threads  chan struct{} // holds a token for each request that is handled; nil for no limit
	stopping chan struct{} // closed when requests in flight get no answer any more
	busy     sync.RWMutex  // held for reading by each completion request in flight
	inFlight atomic.Int64  // how many they are
	long     atomic.Int64  // how many of them are for more than a token
	served   atomic.Int64  // how many requests came so far
	tokens   atomic.Int64  // how many words were answered so far
	stepped  atomic.Int64  // how many steps were made so far
	exit     chan int      // the exit status

	shownRunning, shownWaiting atomic.Int64 // by the gauges of an engine that seldom sets them

	turn  sync.Mutex // held while the engine becomes ready, and while it decides what a signal means
	stuck bool       // by a signal while it loaded

	mu          sync.Mutex
	signals     map[string]int
	readyAt     time.Time
	worked      time.Time // when a request for work came last
	firstAnswer time.Duration
	ignored     map[string]int // requests, by page
}

func newEngine(args []string, inv invocation) *engine {
	p := inv.Behavior.Engine.profile()
	e := &engine{
		b: inv.Behavior, profile: p, about: p.about(), cookie: inv.Cookie, argv: args, began: time.Now(),
		stopping: make(chan struct{}), exit: make(chan int, 4), signals: map[string]int{}, wedged: make(chan struct{}),
	}
	e.wedge = sync.OnceFunc(func() { close(e.wedged) })
	if n := inv.Behavior.Threads; n > 0 {
		e.threads = make(chan struct{}, n)
	}
	return e
}

// serve runs an engine until it ends and returns its exit status.
func serve(args []string, inv invocation) int {
	e := newEngine(args, inv)
	var err error
	if e.opts, err = e.profile.parse(args, os.LookupEnv, e.b); err != nil {
		fmt.Fprintln(os.Stderr, err)
		var refused *refusal
		if errors.As(err, &refused) {
			return refused.code
		}
		return 1
	}
	switch {
	case e.opts.version && e.about.stderr:
		fmt.Fprint(os.Stderr, orElse(e.b.VersionText, e.about.asked))
		return 0
	case e.opts.version:
		fmt.Print(orElse(e.b.VersionText, e.about.asked))
		return 0
	case e.opts.devices:
		fmt.Print(e.b.Devices)
		return 0
	case e.opts.help:
		fmt.Print(orElse(e.b.HelpText, e.about.help))
		return 0
	}
	if e.b.IgnoreTerm {
		e.onTerm(nil)
	}
	if e.b.Lifetime > 0 {
		time.AfterFunc(e.b.Lifetime, func() { os.Exit(3) })
	}
	return e.profile.run(e)
}

// begin does what comes before the load: it sets the engine up, says hello, and starts what the behaviour wants.
func (e *engine) begin(hello string, args ...any) bool {
	if err := e.setUp(); err != nil {
		e.log('E', "main: %v", err)
		return false
	}
	e.log('I', hello, args...)
	fmt.Fprint(os.Stderr, e.b.LogText)
	e.noise()
	if d := e.b.DieLoading; d != nil {
		time.AfterFunc(d.After, func() { e.die(*d) })
	}
	return true
}

// load passes the time that a load takes; an engine that is to die of it does not come back.
func (e *engine) load() {
	e.pass(e.b.LoadTime)
	if e.b.DieLoading != nil {
		select {} // dies before it is ready
	}
}

// isReady tells clients that the engine is ready. Signal handlers must stand by then, as a client that has seen 200 may stop the
// engine at once.
func (e *engine) isReady() {
	e.mu.Lock()
	e.readyAt = time.Now()
	e.mu.Unlock()
	e.ready.Store(true)
	if d := e.b.DieReady; d != nil {
		time.AfterFunc(d.After, func() { e.die(*d) })
	}
	if e.b.StopSelf > 0 {
		time.AfterFunc(e.b.StopSelf, func() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) })
	}
}

// pass waits for d and logs progress meanwhile where the behaviour wants it.
func (e *engine) pass(d time.Duration) {
	end := time.NewTimer(d)
	var tick <-chan time.Time
	if e.b.StallLog > 0 {
		ticker := time.NewTicker(e.b.StallLog)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-end.C:
			return
		case <-tick:
			e.log('I', "load_model: loaded %d %%", min(99, 100*time.Since(e.began)/max(d, 1)))
		}
	}
}

// scaled is one of the profile's own times in this engine.
func (e *engine) scaled(d time.Duration) time.Duration { return d / time.Duration(max(1, e.b.Speed)) }

// onTerm counts SIGTERM, SIGINT and more signals from now on, and calls act for each with its number. The
// behaviour may want them to be ignored.
func (e *engine) onTerm(act func(n int), more ...os.Signal) {
	if e.b.IgnoreTerm && act != nil {
		return // it is ignored since the start
	}
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, append(more, syscall.SIGTERM, syscall.SIGINT)...)
	go func() {
		for n := 1; ; n++ {
			sig := <-ch
			e.mu.Lock()
			e.signals[signalName(sig)]++
			e.mu.Unlock()
			if act != nil {
				act(n)
			}
		}
	}()
}

// onQuit makes SIGQUIT do what it does without a Go runtime, which would print its stacks and exit 2.
func (e *engine) onQuit(act func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGQUIT)
	go func() {
		<-ch
		act()
	}()
}

// finish lets the requests in flight come to their end, for at most limit where that is not zero.
func (e *engine) finish(limit time.Duration) {
	ctx := context.Background()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	if e.server == nil {
		_ = e.listener.Close()
		return
	}
	_ = e.server.Shutdown(ctx) // what is in flight after the limit is cut by the exit
}

// die ends the process as d says.
func (e *engine) die(d Death) {
	fmt.Fprint(os.Stderr, d.Stderr)
	if d.Signal != 0 {
		dieBySignal(d.Signal)
	}
	syscall.Exit(d.Code) // not os.Exit, which has more to say in a binary that was built with -cover
}

// dieBySignal ends the process by a signal. The Go runtime handles most deadly ones and would exit 2, so that the
// process becomes a shell first: exec keeps the pid and gives the default actions back.
func dieBySignal(sig syscall.Signal) {
	if sig != syscall.SIGKILL {
		signal.Reset(sig)
		kill := fmt.Sprintf("ulimit -c 0; kill -%d $$", int(sig))
		_ = syscall.Exec("/bin/sh", []string{"sh", "-c", kill}, os.Environ())
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// log prints one line in the engine's form.
func (e *engine) log(level byte, format string, args ...any) {
	fmt.Fprintln(os.Stderr, e.profile.line(e, level, fmt.Sprintf(format, args...)))
}

func signalName(sig os.Signal) string {
	switch sig {
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGHUP:
		return "SIGHUP"
	}
	return "SIGTERM"
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
