// Package proc has the processes of launches, and of the programs that build and install: it starts them, holds them so
// that none is mistaken for another, finds all that belong to one, and ends them.
//
//   - [Start] starts processes that get what they are given and nothing that lies around: of a program's descriptors only
//     those that are listed, and no blocked signals. A process inherits each descriptor that is not marked close-on-exec,
//     and those that a program was born with are not: the lock of the script that called it, or a pipe whose end somebody
//     waits for. An engine that runs for weeks would keep them.
//   - [Process] is one that is held, and [ID] what a later program knows it by.
//   - [Tree] is a process with all that it has started, however far they wander: they carry a mark.
//
// Whoever runs programs calls it. It knows no engine, no configuration and no file of the provisioner's, writes no log and
// tells nobody: what went wrong is in its errors.
package proc

import (
	"context"
	"os/exec"
)

// Start is cmd.Start for commands whose streams are files, or nil for nothing. Of the descriptors of this program, the
// process gets its streams and cmd.ExtraFiles. The context of exec.CommandContext is not
// watched; see [Wait].
func Start(cmd *exec.Cmd) error {
	_, err := start(cmd, false)
	return err
}

// StartTied starts cmd like Start. The process is killed when this program ends, or when untie is called while it lives.
func StartTied(cmd *exec.Cmd) (untie func(), err error) { return start(cmd, true) }

// Wait waits for the end of a command that was started; it is killed when ctx ends.
func Wait(ctx context.Context, cmd *exec.Cmd) error {
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	return cmd.Wait()
}
