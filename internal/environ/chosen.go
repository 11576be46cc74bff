package environ

import (
	"fmt"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/keys"
)

// asFlags are variables that stand for flags of an engine.
var asFlags = []string{"LLAMA_ARG_*"}

// managers are what systemd tells this program of itself. An engine that heeded it would say that this program is ready, or listen on
// files that it does not have.
var managers = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}

// BadPattern tells why a configuration may not choose variables by a pattern, or "".
func BadPattern(pattern string) string {
	name, several := strings.CutSuffix(pattern, "*")
	switch advice, owned := keys.OwnedVariable(name); {
	case !keys.IsVariable(name):
		return `must be the name of a variable, or how names begin and "*", such as "NCCL_*", is ` + keys.Quoted(pattern)
	case several && !strings.Contains(name, "_"):
		return fmt.Sprintf("is %q, which may be anybody's; write more of the name, up to a _ at least", pattern)
	case !several && owned:
		return fmt.Sprintf("may not have %q; %s", name, advice)
	case !several && Secret(name):
		return fmt.Sprintf(`may not have %q, which is a secret by its name; write "env: {%s: {from_env: %s}}"`, name, name, name)
	case !several && Match(notEngines, name):
		return fmt.Sprintf(`may not have %q; write "devices", "gpu" or "env" instead`, name)
	case !several && Match(managers, name):
		return fmt.Sprintf(`may not have %q, which tells this program about itself; remove it`, name)
	case Match(asFlags, name):
		return fmt.Sprintf(`may not have %q, which stands for flags; write "flags" instead`, pattern)
	}
	return ""
}

// Chosen is what this program has of the variables that a configuration chooses by patterns. No pattern brings a secret, or what
// other keys decide.
func Chosen(patterns []string) map[string]string {
	env := Matching(patterns)
	for name := range env {
		if _, owned := keys.OwnedVariable(name); owned || Secret(name) || Match(notEngines, name) || Match(asFlags, name) || Match(managers, name) {
			delete(env, name)
		}
	}
	return env
}
