package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/test/wait"
)

// browser is a headless Chromium with one page, which is spoken to through pipes by the protocol of its developer tools.
type browser struct {
	t       *testing.T
	to      io.Writer
	session string

	mu      sync.Mutex
	last    int
	answers map[int]chan reply
	asked   []string // the URLs that the page has asked for
	trouble []string // what it has said on its console that is an error
}

type reply struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// chromium is the browser that the test is told to use, which scripts/test-page.sh does.
func chromium(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ENGINE_PROVISIONER_CHROMIUM")
	if path == "" {
		t.Skip("there is no browser to look at the page with; run make test-page, which gets one")
	}
	return path
}

// browse starts the browser and opens a page in it, of the size of a screen.
func browse(t *testing.T, url string, width, height int) *browser {
	t.Helper()
	path, dir := chromium(t), t.TempDir()
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	said, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--user-data-dir="+dir, "--remote-debugging-pipe")
	cmd.ExtraFiles = []*os.File{theirs, says}
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	says.Close()
	b := &browser{t: t, to: ours, answers: map[int]chan reply{}}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		b.hear(said)
	}()
	t.Cleanup(func() {
		ours.Close() // it ends with its pipe
		cancel()
		_ = cmd.Wait()
		<-heard
		said.Close()
	})
	var target struct{ TargetID, SessionID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	b.resize(width, height)
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	return b
}

// hear takes what the browser says, each message up to a NUL.
func (b *browser) hear(from io.Reader) {
	messages := bufio.NewScanner(from)
	messages.Buffer(nil, 64<<20)
	messages.Split(func(data []byte, _ bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, 0); i >= 0 {
			return i + 1, data[:i], nil
		}
		return 0, nil, nil
	})
	for messages.Scan() {
		var m struct {
			ID     int    `json:"id"`
			Method string `json:"method"`
			reply
			Params struct {
				Type    string `json:"type"`
				Request struct {
					URL string `json:"url"`
				} `json:"request"`
				Entry struct {
					Level, Text, URL string
				} `json:"entry"`
			} `json:"params"`
		}
		text := messages.Bytes()
		if err := json.Unmarshal(text, &m); err != nil {
			continue // of kinds that nobody asks for
		}
		b.mu.Lock()
		switch {
		case m.ID != 0:
			b.answers[m.ID] <- m.reply
			delete(b.answers, m.ID)
		case m.Method == "Network.requestWillBeSent":
			b.asked = append(b.asked, m.Params.Request.URL)
		case m.Method == "Runtime.exceptionThrown",
			m.Method == "Runtime.consoleAPICalled" && (m.Params.Type == "error" || m.Params.Type == "warning"),
			m.Method == "Log.entryAdded" && (m.Params.Entry.Level == "error" || m.Params.Entry.Level == "warning"):
			b.trouble = append(b.trouble, string(text))
		}
		b.mu.Unlock()
	}
}

// call asks the browser for something.
func (b *browser) call(method string, params any, result any) {
	b.t.Helper()
	answered := make(chan reply, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	b.answers[id] = answered
	b.mu.Unlock()
	message := map[string]any{"id": id, "method": method, "params": params}
	if params == nil {
		message["params"] = struct{}{}
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	select {
	case r := <-answered:
		if r.Error != nil {
			b.t.Fatalf("%s: %s", method, r.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(r.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
	case <-time.After(wait.Patience):
		b.t.Fatalf("%s: the browser does not answer", method)
	}
}

func (b *browser) resize(width, height int) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

func (b *browser) scheme(name string) {
	b.t.Helper()
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": name}}}, nil)
}

// value is what an expression is worth in the page, as text.
func (b *browser) value(expression string) string {
	b.t.Helper()
	var r struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		ExceptionDetails json.RawMessage `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	return fmt.Sprint(r.Result.Value)
}

// sees waits until an expression is true in the page.
func (b *browser) sees(what, expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(wait.Patience); b.value(expression) != "true"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("the page does not show %s: %s is %s; it shows:\n%s", what, expression, b.value(expression), b.value("document.body.innerText"))
		}
	}
}

// press presses a key.
func (b *browser) press(key string, code int) {
	b.t.Helper()
	text := map[string]string{"Enter": "\r"}[key]
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}, nil)
	}
}

// picture is what the page looks like, as a PNG.
func (b *browser) picture() []byte {
	b.t.Helper()
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return png
}

// quiet fails the test for what the page has said on its console, or asked of others than its own server.
func (b *browser) quiet(url string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.trouble {
		b.t.Errorf("on the console: %s", text)
	}
	for _, asked := range b.asked {
		if !strings.HasPrefix(asked, url+"/") && asked != "data:," {
			b.t.Errorf("the page asks for %s", asked)
		}
	}
	if len(b.asked) == 0 {
		b.t.Error("the page has asked for nothing")
	}
}
