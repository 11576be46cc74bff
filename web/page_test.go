package web

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
)

// The page is one file that names no host, and its policy lets run what is in it and nothing else.
func TestPageIsWhole(t *testing.T) {
	t.Parallel()
	w := ask(New(open(t), Options{}), here, "localhost", "", "/")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" || w.Body.String() != page {
		t.Errorf("%d, %s, %d bytes", w.Code, w.Header().Get("Content-Type"), w.Body.Len())
	}
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy is %s", policy)
	}
	for _, once := range []string{"<script", "<style", "</script", "</style"} {
		if n := strings.Count(page, once); n != 1 {
			t.Errorf("%d of %s", n, once)
		}
	}
	text := strings.ReplaceAll(page, "http://www.w3.org/2000/svg", "") // a name, not an address
	for _, wrong := range []string{`//[a-z]`, `https?:`, `innerHTML`, `outerHTML`, `insertAdjacent`, `document\.write`, `eval\(`, `\son\w+="`, ` style="`} {
		if found := regexp.MustCompile(wrong).FindString(text); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
}

// A start, a crash and a restart are seen as they happen; words of the engine are text; keys do what the mouse does.
func TestPage(t *testing.T) {
	t.Parallel()
	_ = chromium(t)
	hostile := `<img src=x onerror="document.title='taken'"> & <b>bold</b>`
	f := open(t, config(t, enginetest.Behavior{LoadTime: 500 * time.Millisecond, LogText: hostile + "\n"}))
	url, _ := serve(t, f, Options{})
	b := browse(t, url+"/", 1280, 800)
	b.value("window.before = 'this page'")
	const state = "document.querySelector('#replicas .state')"
	b.sees("a ready replica", state+"?.textContent === 'ready'")
	b.sees("its load", "[...document.querySelectorAll('.bar i')].map(e => e.className).join().endsWith('starting,ready')")
	b.sees("that all are ready", "document.title.startsWith('1/1 ready')")
	b.sees("that it is connected", "document.getElementById('live').textContent === 'live'")

	if err := syscall.Kill(f.Status()[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.sees("the crash", "[...document.querySelectorAll('#events li')].some(e => e.textContent.includes('failed'))")
	b.sees("the restart", "document.querySelector('#replicas .facts').textContent.includes('1 restart')")
	b.sees("that it is ready again", state+".textContent === 'ready'")
	b.sees("all of that in its bar", "/ready,failed,.*starting,ready$/.test([...document.querySelectorAll('.bar i')].map(e => e.className).join())")

	b.press("Tab", 9)
	b.sees("the focus on a replica", "document.activeElement.closest('#replicas') !== null")
	b.press("Enter", 13)
	b.sees("its log, as text", "document.getElementById('log').textContent.includes('onerror=')")
	b.sees("which replica is chosen", "document.getElementById('of').textContent === 'pool/r0' && document.activeElement.getAttribute('aria-pressed') === 'true'")
	b.press("Escape", 27)
	b.sees("that none is chosen", "document.getElementById('of').textContent === 'all replicas'")

	light := b.value("getComputedStyle(document.body).backgroundColor")
	b.scheme("dark")
	if dark := b.value("getComputedStyle(document.body).backgroundColor"); dark == light {
		t.Errorf("light and dark are both %s", dark)
	}
	b.resize(360, 740)
	b.sees("all of it on a phone", "document.documentElement.scrollWidth <= 360")

	if stays := b.value("window.before"); stays != "this page" {
		t.Errorf("the page was loaded again: %s", stays)
	}
	if n := b.value("document.querySelectorAll('img, #log b').length"); n != "0" {
		t.Errorf("%s elements are of the log", n)
	}
	b.quiet(url)

	if err := f.Shutdown(wait.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	b.sees("that it has stopped", state+".textContent === 'stopped'")
}

// TestPagePicture takes a picture of a page that scripts/picture.sh has running.
func TestPagePicture(t *testing.T) {
	url, file := os.Getenv("PICTURE_URL"), os.Getenv("PICTURE_FILE")
	if url == "" || file == "" {
		t.Skip("run scripts/picture.sh")
	}
	b := browse(t, url, 1180, 760)
	b.sees("how the replicas are", "document.querySelectorAll('#replicas li').length > 0")
	b.value("document.querySelector('#replicas button').click()")
	b.sees("a log", "document.getElementById('log').className === ''")
	b.sees("rates", "document.querySelector('#plots polyline') !== null")
	b.value("document.querySelector('#replicas button').blur()")
	if err := os.WriteFile(file, b.picture(), 0o644); err != nil {
		t.Fatal(err)
	}
}
