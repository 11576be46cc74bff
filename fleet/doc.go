// Package fleet keeps many launches of one node alive: [Open] takes over a state directory, adopts the engines that an
// earlier manager left, and starts the others; what ends unasked is started again, by the rules of
// [settings.Restart]. [Fleet.Apply] brings a changed configuration about, [Fleet.Events] tells what happens, and
// other programs ask with [RequestStart], [RequestStop], [RequestRestart], [RequestHold], [RequestReset] and [RequestReload].
//
// It owns what is remembered between the launches of a replica, the order of what is done to a pool, the requests of other
// programs, and the file of events. Daemons that keep engines alive call it, and the command does. It performs nothing of a
// launch by itself: everything is done through what package provisioner exports, so that another manager could be
// written beside it. One manager at a time has a state directory.
//
// A file is a noun or a verb: fleet (the type, and what it takes on), members and ending (who comes, and Shutdown and Release of
// all), one (what is asked about one replica), replica (its
// launches in turn), order (what it is told to do), memory (what is remembered, and the policy's decisions), await (who waits for it),
// reload, apply and change (new settings), adopt (what earlier managers and commands left), hold (who keeps it stopped), keeper (what somebody
// removed), request and inbox (other programs), events and status.
package fleet
