package node

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

func TestMain(m *testing.M) {
	enginetest.Main()
	goleak.VerifyTestMain(m)
}
