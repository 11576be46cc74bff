package advertise

import (
	"os"
	"strings"
	"testing"
)

func TestBad(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"gpu-1", "gpu_1.example.", "10.0.0.7", "fd00::7", "{hostname}", "{pod_ip}", "{interface:eth0}", "{interface:br-1.4}"} {
		if text := Bad(good); text != "" {
			t.Errorf("%q: %s", good, text)
		}
	}
	for _, bad := range []string{
		"", "gpu-1:80", "http://gpu-1", "gpu 1", "{host}", "{interface:}", "{interface:a/b}", "x{hostname}", "-a", "a..b", "\x1b[2J", strings.Repeat("a", 64),
	} {
		if Bad(bad) == "" {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestHost(t *testing.T) {
	name, _ := os.Hostname()
	t.Setenv(PodIP, "10.244.1.7")
	for text, want := range map[string]string{"gpu-1": "gpu-1", "": "", "{hostname}": name, "{pod_ip}": "10.244.1.7", "{interface:lo}": "127.0.0.1"} {
		if got, err := Host(text); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	t.Setenv(PodIP, "")
	for text, want := range map[string]string{"{pod_ip}": "status.podIP", "{interface:none0}": "there are lo"} {
		if _, err := Host(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
