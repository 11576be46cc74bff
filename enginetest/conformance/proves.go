package conformance

import "testing"

// proves says in the events of "go test -json" which engine has just shown what, for tables of what was tested.
func (l *launch) proves(t *testing.T, what string) {
	t.Helper()
	t.Attr("engine", l.cfg.Engine)
	t.Attr("version", l.version)
	t.Attr("proves", what)
}
