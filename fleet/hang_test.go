package fleet

import (
	"testing"
)

func await(t *testing.T, result <-chan error) error {
	t.Helper()
	select {
	case err := <-result:
		return err
	case <-bounded(t).Done():
		t.Fatal("it hangs")
		return nil
	}
}
