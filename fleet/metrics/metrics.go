// Package metrics tells Prometheus how the replicas of a fleet fare. It owns the names and meanings of the series
// engine_provisioner_…, which docs/operations.md lists. Programs import it that want them: nobody else links Prometheus'
// client. It starts, stops and registers nothing.
//
//	counts := metrics.New()
//	replicas, err := fleet.Open(ctx, fleet.Options{OnEvent: counts.Observe}, cfgs...)
//	…
//	counts.Watch(replicas)
//	prometheus.MustRegister(counts)
package metrics

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/report"
)

// Collector is the metrics of one fleet. What happened is counted as it happens, by Observe; how things stand is
// asked for by each scrape. It is made by New, and its methods are safe for concurrent use. To register several in one
// registry, tell them apart with a label: wrap the registry for each with prometheus.WrapRegistererWith.
type Collector struct {
	restarts  *prometheus.CounterVec
	adoptions *prometheus.CounterVec
	load      *prometheus.HistogramVec
	ready     *prometheus.HistogramVec
	exitCode  *prometheus.GaugeVec
	exitTime  *prometheus.GaugeVec

	state    *prometheus.Desc
	breaker  *prometheus.Desc
	held     *prometheus.Desc
	logBytes *prometheus.Desc
	gpu      *prometheus.Desc
	logs     logSizes

	mu       sync.Mutex
	replicas *fleet.Fleet     // nil before Watch
	counted  map[replica]bool // those that have series of what happened
}

type replica struct{ pool, id string }

// Loads take from half a second, of a small model in the page cache, to half an hour, of a large one from a network disk.
// Engines serve from seconds, when something is wrong, to months.
var (
	loadBuckets  = []float64{0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800}
	readyBuckets = []float64{10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600, 30 * 24 * 3600}
)

// New returns a Collector that has counted nothing yet.
func New() *Collector {
	const prefix = "engine_provisioner_"
	labels := []string{"pool", "replica"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, labels)
	}
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, append(more, labels...), nil)
	}
	c := &Collector{
		counted: map[replica]bool{}, logs: logSizes{sizeOf: dirSize},
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "restarts_total", Help: "Restarts that the fleet has decided on, by the cause of the failure.",
		}, append(labels, "cause")),
		adoptions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "adoptions_total", Help: "Replicas that an earlier manager had left, by what became of them.",
		}, []string{"result"}),
		load: histogram("load_duration_seconds", "Time from the start of an engine to its readiness.", loadBuckets),
		ready: histogram("ready_duration_seconds", "How long engines were ready, counted when they cease to be.",
			readyBuckets),
		exitCode: gauge("last_exit_code", "Exit code of the last engine that ended; -1 when a signal ended it."),
		exitTime: gauge("last_exit_timestamp_seconds", "When the last engine ended."),
		state:    desc("state", "1 for the state of the replica's present or last launch, 0 for the others.", "state"),
		breaker:  desc("breaker_open", "1 while the replica is not started because too many starts have failed."),
		held:     desc("held", "1 while somebody holds the replica, which keeps it stopped."),
		logBytes: desc("log_bytes", "What the logs of the replica take on disk."),
		gpu:      desc("gpu", "1 for each GPU that a replica with a process was given, by UUID, or else by PCI address.", "gpu"),
	}
	for _, result := range []report.Recovery{
		report.RecoveredAdopted, report.RecoveredStopped, report.RecoveredGone, report.RecoveredUnknown,
	} {
		c.adoptions.WithLabelValues(string(result)) // a series that begins with its first increase shows no increase
	}
	return c
}

// Watch sets the fleet whose replicas are looked at by each scrape. Before, and with nil, only what has happened is
// told.
func (c *Collector) Watch(s *fleet.Fleet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replicas = s
}

// Observe counts an event. It is for OnEvent of [fleet.Options]: a channel of events may miss some.
func (c *Collector) Observe(e provisioner.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Kind {
	case provisioner.EventRecovery:
		c.adoptions.WithLabelValues(string(e.Recovery)).Inc()
		return
	case provisioner.EventRestart:
		if e.Restarts != nil && (e.Restarts.Phase == report.PhaseBackoff || e.Restarts.Phase == report.PhaseOpen) {
			c.restarts.WithLabelValues(e.Pool, e.Replica, string(e.Cause)).Inc()
			c.counted[replica{e.Pool, e.Replica}] = true
		}
		return
	case provisioner.EventState:
	default:
		return
	}
	c.counted[replica{e.Pool, e.Replica}] = true
	if e.State == provisioner.StateReady {
		c.load.WithLabelValues(e.Pool, e.Replica).Observe(e.Took)
	}
	if e.From == provisioner.StateReady {
		c.ready.WithLabelValues(e.Pool, e.Replica).Observe(e.Took)
	}
	if e.State.Final() && e.PID != 0 {
		c.exitTime.WithLabelValues(e.Pool, e.Replica).Set(float64(e.Time.UnixMilli()) / 1000)
		if e.ExitCode == nil { // the exit of an adopted engine
			c.exitCode.DeleteLabelValues(e.Pool, e.Replica)
		} else {
			c.exitCode.WithLabelValues(e.Pool, e.Replica).Set(float64(*e.ExitCode))
		}
	}
}

// forget removes the series of replicas that the fleet has no more.
func (c *Collector) forget(gone map[replica]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range gone {
		delete(c.counted, r)
		of := prometheus.Labels{"pool": r.pool, "replica": r.id}
		c.restarts.DeletePartialMatch(of)
		for _, v := range []*prometheus.HistogramVec{c.load, c.ready} {
			v.DeletePartialMatch(of)
		}
		for _, v := range []*prometheus.GaugeVec{c.exitCode, c.exitTime} {
			v.DeletePartialMatch(of)
		}
	}
}

func (c *Collector) vectors() []prometheus.Collector {
	return []prometheus.Collector{c.restarts, c.adoptions, c.load, c.ready, c.exitCode, c.exitTime}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, v := range c.vectors() {
		v.Describe(to)
	}
	to <- c.state
	to <- c.breaker
	to <- c.held
	to <- c.logBytes
	to <- c.gpu
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	c.mu.Lock()
	replicas, counted := c.replicas, maps.Clone(c.counted) // before the look: who is added after it has its series already
	c.mu.Unlock()
	folders := map[replica]string{}
	for _, s := range statuses(replicas) {
		for _, state := range states {
			gauge(c.state, truth(s.State == state), string(state), s.Pool, s.Replica)
		}
		if s.PID != 0 {
			for _, device := range s.Devices {
				gauge(c.gpu, 1, device, s.Pool, s.Replica)
			}
		}
		if dir, err := replicas.LogDir(s.ID()); err == nil { // else it was removed just now
			folders[replica{s.Pool, s.Replica}] = dir
		}
		gauge(c.breaker, truth(s.Restarts != nil && s.Restarts.Phase == report.PhaseOpen), s.Pool, s.Replica)
		gauge(c.held, truth(s.Hold != nil), s.Pool, s.Replica)
	}
	for r, size := range c.logs.of(folders) {
		gauge(c.logBytes, float64(size), r.pool, r.id)
	}
	if replicas != nil {
		maps.DeleteFunc(counted, func(r replica, _ bool) bool { return folders[r] != "" })
		c.forget(counted)
	}
	for _, v := range c.vectors() {
		v.Collect(to)
	}
}

// states are all of them, in the order of a launch's life.
var states = []provisioner.State{
	provisioner.StateNew, provisioner.StatePreparing, provisioner.StateStarting, provisioner.StateReady,
	provisioner.StateDraining, provisioner.StateStopping, provisioner.StateStopped, provisioner.StateFailed,
}

func statuses(s *fleet.Fleet) []provisioner.Status {
	if s == nil {
		return nil
	}
	return s.Status()
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
