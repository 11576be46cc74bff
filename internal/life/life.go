// Package life judges whether an engine lives: it works, is busy, suspended, wedged, failing or gone. It is the one place
// that does. It asks nothing and has no clock: what was seen, and when, goes in, and a [Verdict] comes out. Silence alone
// is never a reason to end an engine: an engine that is full of work does not answer either.
//
// The launch calls it, for readiness, liveness, drain and recovery alike.
package life

import "time"

// Life is how an engine stands.
type Life string

// The ways in which an engine can stand.
const (
	Working   Life = "working"   // it answers
	Busy      Life = "busy"      // it gives no answer, and nothing shows that it cannot work
	Suspended Life = "suspended" // it is held from outside, and goes on when whoever holds it wants that
	Wedged    Life = "wedged"    // it has work, nothing of it has moved for long, and it has given no token when it was asked for one
	Failing   Life = "failing"   // it refused, or answered with an error, several times in a row
	Gone      Life = "gone"      // its main process has ended
)

// Lost reports whether the engine cannot be expected to serve again by itself.
func (l Life) Lost() bool { return l == Wedged || l == Failing || l == Gone }

// Answer is what came of a question to the engine.
type Answer int

// What can come of a question.
const (
	Unasked  Answer = iota // it was not asked
	Fine                   // what a healthy engine says
	Silence                // nothing in time, or the word that it has too much to do (429)
	Refused                // nobody listens, or the connection broke
	Mistaken               // an error, such as a 5xx, or what is no answer to this question
)

// Token is where a question for one token stands, which is asked where a [Verdict] says so.
type Token int

// Where a question for one token can stand.
const (
	TokenUnasked Token = iota
	TokenAwaited       // it was asked, and its time is not over
	TokenCame          // there it is, or the engine cannot be asked for one
	TokenMissed        // its time is over
)

// Work is the engine's own account of what it does.
type Work struct {
	Requests int     // in it, running or waiting; negative when they are not counted
	Tokens   float64 // a sum of counters that rises with all that it does; negative when there are none
}

// Facts are what was seen of an engine at one time. What is left out was not looked at, and says nothing.
type Facts struct {
	Gone   bool
	Held   string // what suspends it, for people, such as "SIGSTOP"; "" for nothing
	Asleep bool   // it says that it sleeps

	Answer Answer // the worst, where it was asked for several pages
	Page   string // which Answer is about, such as "/health"
	Said   string // what the engine said when it was not Fine, for people

	Main   time.Duration // CPU time that the main process has used so far
	CPU    time.Duration // and all processes; to look at them all costs more
	Memory int64         // in bytes, resident
	Log    int64         // in bytes, without what only tells of questions such as ours
	Work   *Work         // nil when it could not be read

	Token     Token
	TokenSaid string // what came of it when it was missed, for people
}

// Verdict is what facts amount to.
type Verdict struct {
	Life   Life
	Reason string // for people; "" when the engine works

	// Ask says that the engine is to be asked for one token, with a long limit, and what comes of it to be told as Facts.Token:
	// it is wedged only if none comes. It stays true until then.
	Ask bool
	// Silent is for how long there was no answer. Quiet is for how long nothing has moved: no token, no CPU time, no log line.
	Silent, Quiet time.Duration
	// Works says that something has moved since the last answer, which is what a saturated engine looks like.
	Works bool
	// Tokens is by how much the engine's own counters have risen since the first look at them, whoever got what they count.
	Tokens float64
}
