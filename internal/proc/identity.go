package proc

// ID tells a process from any other, also from a later one with the same pid.
//
// Start ticks count 10 ms, so two processes can share pid and ticks; the inode of a pidfd (Linux 6.9) cannot be shared.
// The user is no part of it: setpriv, gosu and su-exec change it in the same process. It is written for older versions,
// which compare it.
type ID struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks,string"`
	PidfdIno   uint64 `json:"pidfd_ino,string"` // 0 when the kernel does not tell
	BootID     string `json:"boot_id"`
	PIDNS      string `json:"pid_ns"`
	UID        int    `json:"uid"`
}

// Matches reports whether both are the same process.
func (a ID) Matches(b ID) bool {
	return a.PID > 1 && a.PID == b.PID && a.StartTicks == b.StartTicks && a.BootID == b.BootID && a.PIDNS == b.PIDNS &&
		(a.PidfdIno == b.PidfdIno || a.PidfdIno == 0 || b.PidfdIno == 0)
}
