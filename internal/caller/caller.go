// Package caller owns how a program that asks for something names itself, for whoever reads later who it was.
//
// Whoever writes a request or a stop down asks here. It looks up this program alone, and tells nothing of its arguments but
// a word that can be no secret.
package caller

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// Program is a program for people.
type Program struct {
	User    string // the name, or the number where it has none
	PID     int
	Command string // the file's name, with the first argument where that only says what the program does
}

// subcommand is a first argument that only says what a program does.
var subcommand = lazyregexp.New(`^[a-z]{1,16}$`)

// This is the program that calls.
func This() Program {
	s := Program{User: name(os.Geteuid()), PID: os.Getpid(), Command: filepath.Base(os.Args[0])}
	if len(os.Args) > 1 && subcommand.MatchString(os.Args[1]) {
		s.Command += " " + os.Args[1]
	}
	return s
}

// names are those of the users that this program has been: a look-up can go through the network, and each stop asks.
var names sync.Map

func name(uid int) string {
	if known, ok := names.Load(uid); ok {
		return known.(string)
	}
	number := strconv.Itoa(uid)
	u, err := user.LookupId(number)
	if err != nil {
		return number
	}
	names.Store(uid, u.Username)
	return u.Username
}
