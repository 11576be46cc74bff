// Package hubtest is a server that behaves like the Hugging Face hub, for tests: an API, downloads that redirect to
// another host under a signed URL, and faults on demand.
//
// Tests alone call it. It serves what it is given, counts what it has served, and asks nobody.
package hubtest

import (
	"bytes"
	"crypto/sha1" // git names its blobs so
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// Signature stands in the query of every URL that the hub redirects to. It must be found in no error and no log.
const Signature = "signature-of-the-cdn"

// Hub is the hub. Make one with [New] and close it. It is safe for concurrent use.
type Hub struct {
	API *httptest.Server // the hub itself; its URL is the HF_ENDPOINT
	CDN *httptest.Server // where the contents are

	mu       sync.Mutex
	repos    map[string]*repo
	token    string
	faults   []Fault
	requests []Request
}

// Request is a request that arrived.
type Request struct {
	CDN    bool
	Path   string
	Header http.Header
}

type repo struct {
	files map[string]file
	refs  map[string]string // name to commit
}

type file struct {
	content []byte
	lfs     bool
	sha256  string
}

// Fault can answer a request in place of the server. It reports whether it did; else the next one is asked.
type Fault func(w http.ResponseWriter, r *http.Request, cdn bool, next http.Handler) bool

// New starts a hub without a repository.
func New() *Hub {
	h := &Hub{repos: map[string]*repo{}}
	h.API = httptest.NewServer(h.serve(false, http.HandlerFunc(h.api)))
	h.CDN = httptest.NewServer(h.serve(true, http.HandlerFunc(h.cdn)))
	return h
}

// Close ends the servers.
func (h *Hub) Close() {
	h.API.CloseClientConnections()
	h.CDN.CloseClientConnections()
	h.API.Close()
	h.CDN.Close()
}

// Add puts a file into a repository, as large files are kept there, and makes a new commit of its main branch. It
// returns the commit.
func (h *Hub) Add(repoID, path string, content []byte) string {
	return h.add(repoID, path, file{content, true, sha256Of(content)})
}

// AddSmall is Add for a file that git keeps.
func (h *Hub) AddSmall(repoID, path string, content []byte) string {
	return h.add(repoID, path, file{content, false, sha256Of(content)})
}

func (h *Hub) add(repoID, path string, f file) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.repos[repoID]
	if r == nil {
		r = &repo{files: map[string]file{}, refs: map[string]string{}}
		h.repos[repoID] = r
	}
	r.files[path] = f
	sum := sha1.New()
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		fmt.Fprintf(sum, "%s %s\n", name, r.files[name].sha256)
	}
	r.refs["main"] = hex.EncodeToString(sum.Sum(nil))
	return r.refs["main"]
}

// Tag names the present commit of a repository.
func (h *Hub) Tag(repoID, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.repos[repoID].refs[name] = h.repos[repoID].refs["main"]
}

// RequireToken makes all repositories private.
func (h *Hub) RequireToken(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.token = token
}

// Inject adds a fault.
func (h *Hub) Inject(f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, f)
}

// Requests are those that arrived until now.
func (h *Hub) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// Served is how many requests for content arrived.
func (h *Hub) Served() int {
	n := 0
	for _, r := range h.Requests() {
		if r.CDN {
			n++
		}
	}
	return n
}

func (h *Hub) serve(cdn bool, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.requests = append(h.requests, Request{CDN: cdn, Path: r.URL.Path, Header: r.Header.Clone()})
		faults := slices.Clone(h.faults)
		h.mu.Unlock()
		for _, fault := range faults {
			if fault(w, r, cdn, handler) {
				return
			}
		}
		handler.ServeHTTP(w, r)
	})
}

func (h *Hub) api(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.token != "" && r.Header.Get("Authorization") != "Bearer "+h.token {
		fail(w, http.StatusUnauthorized, "RepoNotFound", "Repository Not Found")
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/models/"); ok {
		id, rev, _ := strings.Cut(rest, "/revision/")
		h.list(w, id, rev)
		return
	}
	id, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/resolve/")
	rev, path, _ := strings.Cut(rest, "/")
	repo, commit := h.find(w, id, rev)
	if repo == nil {
		return
	}
	f, ok := repo.files[path]
	if !ok {
		fail(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	w.Header().Set("X-Repo-Commit", commit)
	w.Header().Set("Accept-Ranges", "bytes")
	if !f.lfs {
		w.Header().Set("Etag", `"`+gitSHA1(f.content)+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
		return
	}
	w.Header().Set("X-Linked-Etag", `"`+f.sha256+`"`)
	w.Header().Set("X-Linked-Size", fmt.Sprint(len(f.content)))
	http.Redirect(w, r, h.CDN.URL+"/"+f.sha256+"?X-Amz-Signature="+Signature, http.StatusFound)
}

func (h *Hub) list(w http.ResponseWriter, id, rev string) {
	repo, commit := h.find(w, id, rev)
	if repo == nil {
		return
	}
	siblings := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(repo.files)) {
		f := repo.files[name]
		s := map[string]any{"rfilename": name, "size": len(f.content), "blobId": gitSHA1(f.content)}
		if f.lfs {
			s["lfs"] = map[string]any{"sha256": f.sha256, "size": len(f.content), "pointerSize": 135}
		}
		siblings = append(siblings, s)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"id": id, "sha": commit, "siblings": siblings})
}

func (h *Hub) find(w http.ResponseWriter, id, rev string) (*repo, string) {
	repo := h.repos[id]
	if repo == nil {
		// The hub does not tell strangers whether a repository exists.
		fail(w, http.StatusUnauthorized, "RepoNotFound", "Invalid username or password.")
		return nil, ""
	}
	if commit, ok := repo.refs[rev]; ok {
		return repo, commit
	}
	for _, commit := range repo.refs {
		if commit == rev {
			return repo, commit
		}
	}
	fail(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+rev)
	return nil, ""
}

func (h *Hub) cdn(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("X-Amz-Signature") != Signature {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	digest := strings.TrimPrefix(r.URL.Path, "/")
	content, ok := h.content(digest)
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Etag", `"cdn-`+digest[:8]+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func (h *Hub) content(digest string) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, repo := range h.repos {
		for _, f := range repo.files {
			if f.sha256 == digest {
				return f.content, true
			}
		}
	}
	return nil, false
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Error-Code", code)
	w.Header().Set("X-Error-Message", message)
	w.WriteHeader(status)
}

func sha256Of(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func gitSHA1(content []byte) string {
	sum := sha1.New()
	fmt.Fprintf(sum, "blob %d\x00", len(content))
	sum.Write(content)
	return hex.EncodeToString(sum.Sum(nil))
}
