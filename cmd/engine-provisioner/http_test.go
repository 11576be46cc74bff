package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/metrics"
	"github.com/llama-orch/engine-provisioner/internal/test/client"
)

func TestServeHTTP(t *testing.T) {
	t.Parallel()
	s, err := listenHTTP(t.Context(), httpFlags{address: ":0"})
	if err != nil {
		t.Fatal(err)
	}
	told := s.serve(metricsHandler(metrics.New()))
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/metrics`).FindString(told)
	if url == "" {
		t.Fatalf("told: %s", told)
	}
	status, page := client.Get(t, &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}, url)
	for _, name := range []string{`engine_provisioner_adoptions_total{result="adopted"}`, "go_goroutines", "process_start_time_seconds"} {
		if !strings.Contains(page, "\n"+name+" ") {
			t.Errorf("status %d, no %s on the page", status, name)
		}
	}
	_, err = listenHTTP(t.Context(), httpFlags{address: s.listener.Addr().String()})
	if !errors.Is(err, provisioner.ErrBusy) || exitCode(err) != exitBusy {
		t.Errorf("a second server: %v", err)
	}

	// A client that never ends its request does not hold up the end.
	lazy, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Close()
	fmt.Fprint(lazy, "GET /metrics HTTP/1.1\r\n")
	s.close()
	if again, err := net.Listen("tcp", s.listener.Addr().String()); err != nil {
		t.Errorf("the address is not free: %v", err)
	} else {
		again.Close()
	}
}

func TestHTTPAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		":9464": "127.0.0.1:9464", "localhost:9464": "localhost:9464", "0.0.0.0:1": "0.0.0.0:1", "[::1]:9464": "[::1]:9464",
		"9464": "", "": "", "host": "", "host:": "", "::1": "",
	} {
		got, err := httpAddress(text)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
		if err != nil && exitCode(err) != exitUsage {
			t.Errorf("%q: exit status %d", text, exitCode(err))
		}
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	name, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	for listener, want := range map[string]string{
		"127.0.0.1:9464": "127.0.0.1:9464", "[::1]:9464": "[::1]:9464", "0.0.0.0:9464": name + ":9464", "[::]:9464": name + ":9464",
	} {
		at, err := net.ResolveTCPAddr("tcp", listener)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(at); got != want {
			t.Errorf("%s: %q, want %q", listener, got, want)
		}
	}
}
