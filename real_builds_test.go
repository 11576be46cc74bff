package provisioner

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
	"github.com/llama-orch/engine-provisioner/internal/witness"
)

// Old builds that do not know their own number: what they take is told by their help.
func TestRealBuildsTakeWhatTheirHelpSays(t *testing.T) {
	t.Parallel()
	host.WithLlamaBuilds(t, func(t *testing.T, name, server string) {
		cfg := realConfig(t, tiny)
		cfg.Provisioning.Binary.Path = server
		cfg.Flags = []string{"-fa", "--draft-max", "8", "--no-mmap", "--mlock"}
		plan, err := planOf(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(plan.Version, "b1-") {
			t.Errorf("version %q; use a build that does not know its number", plan.Version)
		}
		if line := strings.Join(plan.Args(), " "); !strings.Contains(line, "-fa on --spec-draft-n-max 8 --no-mmap --mlock") {
			t.Error(line)
		}
		cfg.Flags = []string{"--load-mode", "none"} // of newer builds than b10068
		_, err = planOf(t.Context(), cfg)
		if name == "b10068" {
			wantText(t, err, `flags[0]: this llama-server does not know "--load-mode"`)
		} else if err != nil {
			t.Error(err)
		}
	})
}

// An engine that computed half a character and refuses to tell it has proven as much as one that tells it.
func TestTokenThatIsHalfACharacter(t *testing.T) {
	t.Parallel()
	// As b10068 and b10434 answer.
	const garbled = `{"error":{"code":500,"message":"The model produced output that does not match the expected Content-only format","type":"server_error"}}`
	for body, proven := range map[string]bool{garbled: true, `{"error":{"code":500,"message":"Compute error.","type":"server_error"}}`: false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(server.Close)
		spec, err := llamacpp.Engine{}.Launch(engine.Request{}, engine.Host{})
		if err != nil {
			t.Fatal(err)
		}
		address := server.Listener.Addr().(*net.TCPAddr)
		ask := probe.New(address.IP.String(), address.Port, secret.Text{}, time.Minute)
		if offered, err := ask.AskToken(t.Context(), witness.Token(spec)); offered != proven || (err == nil) != proven {
			t.Errorf("%s: %t, %v", body, offered, err)
		}
	}
}
