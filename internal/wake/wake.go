// Package wake says when what is done at intervals is done next, for whoever looks at something now and then. It starts no timer.
//
// Whoever looks after a launch, a fleet or its logs calls it, so that looks fall together and an idle machine sleeps between them.
package wake

import "time"

// Until is how long something that is done every interval waits from now on. All replicas wake at the same moments,
// whole seconds for most: a wake-up costs more than what is done then (0.5 ms against 0.1 ms for a health check).
func Until(now time.Time, interval time.Duration) time.Duration {
	return now.Add(interval).Truncate(min(interval, time.Second)).Sub(now)
}
