package argline_test

import (
	"os"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }
