// Package engine is the contract for authors of inference engines: what a launch is asked for, what the host has for it, and
// the description of the launch that an engine makes of both.
//
// It owns the words that engines and the provisioner share, and nothing else. An engine is data: pure functions from a
// [Request] and a [Host] to a [LaunchSpec], which satisfy the interface provisioner.Engine without importing its package.
// [github.com/llama-orch/engine-provisioner/engine/flagline] helps those whose programs have long command lines. The
// built-in engines live in folders beside this file, and are made of these two packages like any other.
//
// Everybody may import it. It imports the standard library alone, and it never touches a file, the network, the environment
// or a process; nor does an engine.
package engine
