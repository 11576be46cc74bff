package provisioner

import "github.com/prometheus/client_golang/prometheus"

// collector is the metrics of a supervisor. What happened is counted as it happens; how things stand is asked for by
// each scrape.
type collector struct {
	supervisor *Supervisor

	restarts  *prometheus.CounterVec
	adoptions *prometheus.CounterVec
	load      *prometheus.HistogramVec
	ready     *prometheus.HistogramVec
	exitCode  *prometheus.GaugeVec
	exitTime  *prometheus.GaugeVec

	state    *prometheus.Desc
	breaker  *prometheus.Desc
	logBytes *prometheus.Desc
	logs     logSizes
}

// Loads take from half a second, of a small model in the page cache, to half an hour, of a large one from a network disk.
// Engines serve from seconds, when something is wrong, to months.
var (
	loadBuckets  = []float64{0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800}
	readyBuckets = []float64{10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600, 30 * 24 * 3600}
)

func newCollector(s *Supervisor) *collector {
	const prefix = "engine_provisioner_"
	replica := []string{"pool", "replica"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, replica)
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, replica)
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, append(labels, replica...), nil)
	}
	c := &collector{
		supervisor: s,
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "restarts_total", Help: "Restarts that the supervisor has decided on, by the cause of the failure.",
		}, append(replica, "cause")),
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
		logBytes: desc("log_bytes", "What the logs of the replica take on disk."),
	}
	for _, result := range []Recovery{RecoveredAdopted, RecoveredStopped, RecoveredGone, RecoveredUnknown} {
		c.adoptions.WithLabelValues(string(result)) // a series that begins with its first increase shows no increase
	}
	return c
}

// Collector returns the supervisor's metrics, for a registry of the program's choice; docs/operations.md lists them. The
// supervisor itself registers nothing. To register several supervisors in one registry, tell them apart with a label: wrap
// the registry for each with prometheus.WrapRegistererWith.
func (s *Supervisor) Collector() prometheus.Collector { return s.counts }

// count takes in an event.
func (c *collector) count(e Event) {
	if e.Kind == EventRestart && e.Restarts.waits() {
		c.restarts.WithLabelValues(e.Pool, e.Replica, string(e.Cause)).Inc()
	}
	if e.Kind != EventState {
		return
	}
	if e.State == StateReady {
		c.load.WithLabelValues(e.Pool, e.Replica).Observe(e.Took)
	}
	if e.From == StateReady {
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

func (c *collector) adoption(result Recovery) { c.adoptions.WithLabelValues(string(result)).Inc() }

// forget removes the series of a replica that is not supervised any more.
func (c *collector) forget(pool, replica string) {
	of := prometheus.Labels{"pool": pool, "replica": replica}
	c.restarts.DeletePartialMatch(of)
	for _, v := range []*prometheus.HistogramVec{c.load, c.ready} {
		v.DeletePartialMatch(of)
	}
	for _, v := range []*prometheus.GaugeVec{c.exitCode, c.exitTime} {
		v.DeletePartialMatch(of)
	}
}

func (c *collector) vectors() []prometheus.Collector {
	return []prometheus.Collector{c.restarts, c.adoptions, c.load, c.ready, c.exitCode, c.exitTime}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, v := range c.vectors() {
		v.Describe(to)
	}
	to <- c.state
	to <- c.breaker
	to <- c.logBytes
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	for _, v := range c.vectors() {
		v.Collect(to)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	replicas := c.supervisor.all()
	opts := newOptions(c.supervisor.opts)
	sizes := c.logs.of(replicas, opts.at)
	for _, r := range replicas {
		s := r.status()
		for _, state := range states {
			gauge(c.state, truth(s.State == state), string(state), s.Pool, s.Replica)
		}
		gauge(c.breaker, truth(s.Restarts.Phase == PhaseOpen), s.Pool, s.Replica)
		if size, known := sizes[r.name]; known {
			gauge(c.logBytes, float64(size), s.Pool, s.Replica)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
