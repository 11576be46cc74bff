package provisioner

// State is where a launch stands.
//
//	from \ to   preparing starting ready draining stopping stopped failed
//	new             x        .       .      .        .        x      x
//	preparing       .        x       .      .        x        x      x
//	starting        .        .       x      x        x        .      x
//	ready           .        .       .      x        x        .      x
//	draining        .        .       .      .        x        .      x
//	stopping        .        .       .      .        .        x      x
//
// stopped and failed are final. A launch that is attached to begins at starting, ready or draining.
type State string

// The states.
const (
	StateNew       State = "new"
	StatePreparing State = "preparing" // the executable and the model are being looked at
	StateStarting  State = "starting"  // the engine runs and loads
	StateReady     State = "ready"     // proven ready; the handoff file exists
	StateDraining  State = "draining"  // requests in flight are waited for
	StateStopping  State = "stopping"  // signalled
	StateStopped   State = "stopped"   // ended because it was asked to
	StateFailed    State = "failed"    // ended otherwise, or could not be started
)

var transitions = map[State][]State{
	StateNew:       {StatePreparing, StateStopped, StateFailed},
	StatePreparing: {StateStarting, StateStopping, StateStopped, StateFailed},
	StateStarting:  {StateReady, StateDraining, StateStopping, StateFailed},
	StateReady:     {StateDraining, StateStopping, StateFailed},
	StateDraining:  {StateStopping, StateFailed},
	StateStopping:  {StateStopped, StateFailed},
}

// Final reports whether a launch in state s has ended.
func (s State) Final() bool { return s == StateStopped || s == StateFailed }
