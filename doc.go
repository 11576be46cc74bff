// Package provisioner starts, health-checks, hands off, keeps alive and stops LLM inference engines on one node:
// llama.cpp's llama-server, vLLM, SGLang, TGI, or any HTTP server that a [settings.Custom] or an [Engine] describes.
//
// # One launch
//
// An [EngineProvisioner] is one launch of one engine, as an exec.Cmd is one run of a command:
//
//   - [New] checks a [ProvisionConfig] and touches nothing. A pools file gives such configurations ([LoadConfig],
//     [Config.Replicas]); their blocks are in package settings.
//   - [EngineProvisioner.Start] gets what is missing, checks the host (executable, model, port, GPU) and starts the
//     process. [EngineProvisioner.Prepare] gets it beforehand.
//   - [EngineProvisioner.WaitReady] returns when the engine is proven ready, and then its [Handoff] file exists.
//   - [EngineProvisioner.Done] is closed when the launch has ended, and [EngineProvisioner.Err] says why.
//   - [EngineProvisioner.Stop] returns when the whole process tree is gone and the port is free.
//
// A context bounds the call that it is given to, never the engine's life: the engine runs on when the program ends
// without Stop. [Attach] takes hold of it again, from whatever process, and [Statuses] tells of all engines of a state
// directory.
//
// # Many launches
//
// Package fleet keeps replicas alive, one launch after the other, by the rules of [settings.Restart] and [settings.Liveness], and
// is made of nothing but what this package exports: a [Manager] holds the state directory and recovers what an earlier one
// left there; [EngineProvisioner.Settle], Compare and Update give a launch that runs other settings; Rehearse does what a
// start can do beside it; KeepHealthy watches it; [IncidentOf] says what its end means for the next.
//
// The package handles no signals, prints nothing and has no state of its own; see [WithLogger] and
// [WithEventFunc] for what it can tell, and package report for the words of it. The folder docs of the repository says the rest: every key of a pools file
// (configuration.md), what is guaranteed (lifecycle.md), and the causes of failures (troubleshooting.md).
//
// # What ready means
//
// The engine's own word is not taken. Its health path says 200; the socket that answers belongs to this launch's
// process tree; the model is the one that was asked for; its metrics are valid where they are on; it has produced a
// token; and it uses the GPU where one is required. Only then the handoff file <state>/engines/<pool>-<replica>.json is
// written, and it goes first thing when the replica stops or dies. Whoever wants to know which replicas are ready needs
// nothing else: see [ReadHandoff] and [WatchHandoffs].
//
// # Errors
//
// A [ConfigError] holds everything that is wrong with a configuration. A [GPUError] is about the GPUs. A [LockedError]
// says that another manager has the state directory. What goes wrong
// with an engine is a [StartError], an [ExitError] or a [NotReadyError], and all of these hold a [Failure]: its cause,
// what to do about it, whether a retry can help, and the engine's last lines. Use [errors.As] to find them.
//
// # Engines of one's own
//
// An [Engine] is data: it describes a launch and performs none of it. Add one with [WithEngine]. Package enginetest has
// a fake llama-server for tests, of this package and of programs that use it.
package provisioner
