package enginetest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// engine is one running fake engine.
type engine struct {
	b        Behavior
	argv     []string
	opts     options
	began    time.Time
	children []int
	keep     []any // what must stay referenced while the engine runs

	listener net.Listener
	ready    atomic.Bool
	hung     atomic.Bool   // by order: no health check is answered any more
	stopping chan struct{} // closed on the first SIGTERM that counts
	busy     sync.RWMutex  // held for reading by each completion request in flight
	inFlight atomic.Int64  // how many they are
	exit     chan int      // the exit status

	mu          sync.Mutex
	signals     map[string]int
	readyAt     time.Time
	firstAnswer time.Duration
}

// serve runs an engine until it ends and returns its exit status.
func serve(args []string, inv invocation) int {
	b := inv.Behavior
	opts, err := parseOptions(args, os.LookupEnv, b)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch {
	case opts.version:
		fmt.Fprint(os.Stderr, orElse(b.VersionText, versionText))
		return 0
	case opts.help:
		fmt.Print(orElse(b.HelpText, helpText))
		return 0
	}
	e := &engine{
		b: b, argv: args, opts: opts, began: time.Now(),
		stopping: make(chan struct{}), exit: make(chan int, 1), signals: map[string]int{},
	}
	e.quitBySignal()
	if b.IgnoreTerm {
		e.handleSignals()
	}
	if b.Lifetime > 0 {
		time.AfterFunc(b.Lifetime, func() { os.Exit(3) })
	}
	if err := e.setUp(inv.Cookie); err != nil {
		e.log('E', "main: %v", err)
		return 1
	}
	e.log('I', "load_model: loading model '%s'", e.opts.model)
	fmt.Fprint(os.Stderr, b.LogText)
	e.noise()
	if d := b.DieLoading; d != nil {
		time.AfterFunc(d.After, func() { e.die(*d) })
	}
	if !e.bind() {
		return 1
	}
	go e.load()
	return <-e.exit
}

// bind opens the port and starts to answer on it.
func (e *engine) bind() bool {
	time.Sleep(e.b.BindDelay)
	address := net.JoinHostPort(e.opts.host, e.opts.port)
	network := "tcp"
	switch {
	case e.b.Bind == BindNever:
		e.log('I', "main: downloading the model")
		<-e.exit
		return false
	case e.b.Bind == BindOther:
		address = net.JoinHostPort(e.opts.host, "0")
	case strings.HasSuffix(e.opts.host, ".sock"):
		network, address = "unix", e.opts.host
	}
	var err error
	if e.b.Bind != BindFail {
		e.listener, err = net.Listen(network, address)
	}
	if e.b.Bind == BindFail || err != nil {
		e.log('E', "start: couldn't bind HTTP server socket, hostname: %s, port: %s", e.opts.host, e.opts.port)
		e.log('E', "main: exiting due to HTTP server error")
		return false
	}
	if e.b.Health == AcceptOnly {
		go e.acceptOnly()
		return true
	}
	server := &http.Server{Handler: e.routes(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(e.listener) }()
	return true
}

// acceptOnly accepts connections and leaves them alone.
func (e *engine) acceptOnly() {
	var held []net.Conn
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			runtime.KeepAlive(held) // a connection that nobody holds is closed by the garbage collector
			return
		}
		held = append(held, conn)
	}
}

// load passes the time that a load takes, and what comes after it.
func (e *engine) load() {
	e.pass(e.b.LoadTime)
	if e.b.DieLoading != nil {
		select {} // dies before it is ready
	}
	// Handlers first, as a client that has seen 200 may stop the engine at once. Before, SIGTERM kills, as it does
	// the real engine.
	if !e.b.IgnoreTerm {
		e.handleSignals()
	}
	e.log('I', "load_model: model loaded")
	e.mu.Lock()
	e.readyAt = time.Now()
	e.mu.Unlock()
	e.ready.Store(true)
	e.log('I', "main: server is listening on %s", e.url())
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

// url is where the engine listens.
func (e *engine) url() string {
	if e.listener.Addr().Network() == "unix" {
		return "unix://" + e.listener.Addr().String()
	}
	return "http://" + e.listener.Addr().String()
}

// handleSignals counts SIGTERM and SIGINT from now on and acts on them.
func (e *engine) handleSignals() {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for n := 1; ; n++ {
			sig := <-ch
			e.mu.Lock()
			e.signals[signalName(sig)]++
			e.mu.Unlock()
			switch {
			case e.b.IgnoreTerm:
			case n > 1:
				e.log('W', "Received second interrupt, terminating immediately.")
				e.exit <- 1
			case !e.b.ExitOnSecondTerm:
				go e.stop()
			}
		}
	}()
}

// stop does what llama-server does on SIGTERM: it closes the port and gives no more tokens, but stays until every
// client in flight has hung up.
func (e *engine) stop() {
	e.log('I', "operator(): cleaning up before exit...")
	close(e.stopping)
	_ = e.listener.Close()
	e.busy.Lock()
	time.Sleep(e.b.SlowExit)
	e.exit <- 0
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

// quitBySignal makes SIGQUIT kill, where the Go runtime would print its stacks and exit 2.
func (e *engine) quitBySignal() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGQUIT)
	go func() {
		<-ch
		dieBySignal(syscall.SIGQUIT)
	}()
}

// log prints one line in llama-server's form: minutes, seconds, milliseconds and microseconds since the start, level, source.
func (e *engine) log(level byte, format string, args ...any) {
	us := time.Since(e.began).Microseconds()
	fmt.Fprintf(os.Stderr, "%d.%02d.%03d.%03d %c srv    %s\n", us/60e6, us/1e6%60, us/1e3%1e3, us%1e3, level,
		fmt.Sprintf(format, args...))
}

func signalName(sig os.Signal) string {
	if sig == syscall.SIGINT {
		return "SIGINT"
	}
	return "SIGTERM"
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
