package docker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// privateRegistry is a registry with one image, "team/engine:1", for who is logged in as user with password.
type privateRegistry struct {
	host           string
	user, password string
	bearer         bool // it wants a token, which it gives to who is logged in
	blobs          map[string][]byte
	manifest       []byte
}

const (
	grantedToken  = "granted"
	identityToken = "identity"
)

func newPrivateRegistry(t testing.TB, bearer bool) *privateRegistry {
	t.Helper()
	r := &privateRegistry{user: "jane", password: "pass:word", bearer: bearer, blobs: map[string][]byte{}}
	var layer, zipped bytes.Buffer
	w := tar.NewWriter(&layer)
	z := gzip.NewWriter(&zipped)
	// The host's name makes the image another one for each registry.
	server := httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	text := []byte(server.Listener.Addr().String())
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/engine", Size: int64(len(text)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(text)
	_ = w.Close()
	_, _ = z.Write(layer.Bytes())
	_ = z.Close()
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": []string{"/engine"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer.Bytes())}},
	})
	if err != nil {
		t.Fatal(err)
	}
	part := func(kind string, data []byte) map[string]any {
		r.blobs[digest(data)] = data
		return map[string]any{"mediaType": kind, "size": len(data), "digest": digest(data)}
	}
	r.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": part("application/vnd.docker.container.image.v1+json", config),
		"layers": []any{part("application/vnd.docker.image.rootfs.diff.tar.gzip", zipped.Bytes())},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "https://")
	if home := os.Getenv("ENGINE_PROVISIONER_PODMAN_HOME"); home != "" { // Docker trusts whatever is on the loopback device
		dir := filepath.Join(home, ".config", "containers", "certs.d", r.host)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), cert, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func (r *privateRegistry) image() string { return r.host + "/team/engine:1" }

// auth is the login as a file keeps it.
func (r *privateRegistry) auth() string {
	return base64.StdEncoding.EncodeToString([]byte(r.user + ":" + r.password))
}

func (r *privateRegistry) serve(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	known := user == r.user && password == r.password
	if req.URL.Path == "/token" {
		known = known || req.PostFormValue("refresh_token") == identityToken
		if !known {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"token": grantedToken, "access_token": grantedToken})
		return
	}
	challenge := `Basic realm="test"`
	if r.bearer {
		challenge = fmt.Sprintf(`Bearer realm="https://%s/token",service="test"`, r.host)
		known = req.Header.Get("Authorization") == "Bearer "+grantedToken
	}
	if !known {
		w.Header().Set("WWW-Authenticate", challenge)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return
	}
	name, blob := strings.CutPrefix(req.URL.Path, "/v2/team/engine/blobs/")
	switch {
	case req.URL.Path == "/v2/":
	case strings.HasPrefix(req.URL.Path, "/v2/team/engine/manifests/"):
		w.Header().Set("Content-Type", manifestType)
		w.Header().Set("Docker-Content-Digest", digest(r.manifest))
		_, _ = w.Write(r.manifest)
	case blob && r.blobs[name] != nil:
		_, _ = w.Write(r.blobs[name])
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}
