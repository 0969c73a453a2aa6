package site

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tree makes a directory to be served, with something beside it that is not: it returns the former.
func tree(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	for name, content := range map[string]string{
		"secret.txt":            "secret",
		"public-secret.txt":     "secret", // shares a prefix with the directory's name
		"public/index.html":     "<p>home",
		"public/a.txt":          "file a",
		"public/with space.txt": "file with space",
		"public/sub/index.html": "<p>sub",
		"public/sub/b.txt":      "file b",
		"public/bare/c.txt":     "file c",
		"public/.env":           "secret",
		"public/.git/config":    "secret",
		"public/..data/d.txt":   "file d",

		"public/.well-known/security.txt": "file security",
	} {
		p := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"public/inside": "a.txt", "public/outside": "../secret.txt", "public/above": "..",
		"public/absolute": filepath.Join(top, "secret.txt"),
		"public/loop":     "loop", "public/bare2": "bare", "public/system": "/etc",
		"public/d.txt": "..data/d.txt",
	} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(top, "public/trap"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../secret.txt", filepath.Join(top, "public/trap/index.html")); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(top, "public")
}

func TestStatic(t *testing.T) {
	s := start(t, Config{Routes: []Route{{Path: "/", Static: tree(t)}, {Path: "/docs", Static: tree(t)}}})
	for _, tt := range []struct {
		path   string
		status int
		want   string // of the body, or the Location of a redirect
	}{
		{"/", 200, "<p>home"},
		{"/a.txt", 200, "file a"},
		{"/with%20space.txt", 200, "file with space"},
		{"/inside", 200, "file a"},
		{"/sub/", 200, "<p>sub"},
		{"/sub", 301, "sub/"},
		{"/sub/b.txt", 200, "file b"},
		{"/index.html", 301, "./"},
		{"/none", 404, ""},
		{"/.env", 404, ""},
		{"/%2eenv", 404, ""},
		{"/.git/config", 404, ""},
		{"/.git/", 404, ""},
		{"/..data/d.txt", 404, ""},
		{"/sub/../.env", 404, ""},
		{"/d.txt", 200, "file d"}, // as in a ConfigMap
		{"/.well-known/security.txt", 200, "file security"},
		{"/a.txt/x", 404, ""},
		{"/" + strings.Repeat("x", 300), 404, ""},
		{"/loop", 404, ""},
		{"/bare/", 403, ""}, // no listing
		{"/bare2/", 403, ""},
		{"/bare/c.txt", 200, "file c"},
		{"/trap/", 403, ""},
		{"/docs", 301, "docs/"},
		{"/docs?q=1", 301, "docs/?q=1"},
		{"/docs/", 200, "<p>home"},
		{"/docs/sub", 301, "sub/"},
		{"/docs/a.txt", 200, "file a"},
		{"/docs/docs/a.txt", 404, ""},
		{"/x/../docs/a.txt", 404, ""},
	} {
		resp, got := get(t, s.URL+tt.path)
		if tt.status == 301 {
			got = resp.Header.Get("Location")
		}
		if resp.StatusCode != tt.status || tt.want != "" && got != tt.want {
			t.Errorf("%s: %s %q", tt.path, resp.Status, got)
		}
	}
}

// Whatever the path says, what lies outside stays there. The paths are sent as they are written here.
func TestStaticStaysInside(t *testing.T) {
	for _, prefix := range []string{"", "/docs"} {
		s := start(t, Config{Routes: []Route{{Path: prefix + "/", Static: tree(t)}}})
		for _, p := range []string{
			"/../secret.txt", "/sub/../../secret.txt", "/./../secret.txt", "/..", "/../public-secret.txt",
			"/../../../../../etc/passwd",
			"/%2e%2e/secret.txt", "/%2e%2e%2fsecret.txt", "/..%2fsecret.txt", "/sub/..%2f..%2fsecret.txt",
			"/..%5csecret.txt", "/%252e%252e/secret.txt",
			"//etc/passwd", "/%2fetc/passwd", "/..;/secret.txt", "/%00/../secret.txt", "/a.txt%00.html",
			"/outside", "/above/secret.txt", "/absolute", "/system/passwd", "/above/public-secret.txt",
		} {
			c, r := dial(t, s.URL)
			send(t, c, "GET "+prefix+p+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(p, err)
			}
			if got := body(t, resp); resp.StatusCode < 300 && got != "<p>home" || strings.Contains(got, "secret") ||
				strings.Contains(got, "root:") {
				t.Errorf("%s: %s %q", p, resp.Status, got)
			}
			if strings.HasPrefix(p, "/outside") && resp.StatusCode != 403 {
				t.Errorf("%s: %s, want 403", p, resp.Status)
			}
		}
	}
}

// Named pipes, sockets and devices are refused, without waiting for anybody at their other end.
func TestStaticServesOnlyFiles(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	s := start(t, Config{Routes: []Route{{Path: "/", Static: dir}}})
	for _, p := range []string{"/pipe", "/sock"} {
		if resp, _ := get(t, s.URL+p); resp.StatusCode != 403 && resp.StatusCode != 404 {
			t.Errorf("%s: %s", p, resp.Status)
		}
	}
}

func TestStaticRangesAndValidators(t *testing.T) {
	s := start(t, Config{Routes: []Route{{Path: "/", Static: tree(t)}}})
	req, _ := http.NewRequest("GET", s.URL+"/a.txt", nil)
	req.Header.Set("Range", "bytes=5-")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); resp.StatusCode != 206 || got != "a" {
		t.Errorf("%s %q", resp.Status, got)
	}
	req.Header.Set("Range", "lines=0-4")
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 200 || body(t, resp) != "file a" {
		t.Errorf("an unknown unit: %v, %v", resp, err)
	}
	req.Header.Set("If-Modified-Since", resp.Header.Get("Last-Modified"))
	req.Header.Del("Range")
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); resp.StatusCode != 304 {
		t.Errorf("%s %q", resp.Status, got)
	}
}

// What reaches the connection is the *os.File itself: only then does the kernel copy the file (sendfile).
func TestStaticSendsTheFileItself(t *testing.T) {
	h, err := New(Config{Routes: []Route{{Path: "/", Static: tree(t)}}}, self, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(w, httptest.NewRequest("GET", "/a.txt", nil))
	limited, ok := w.from.(*io.LimitedReader)
	if !ok {
		t.Fatalf("%T", w.from)
	}
	if _, ok := limited.R.(syscall.Conn); !ok {
		t.Errorf("%T", limited.R)
	}
}

type readerFrom struct {
	*httptest.ResponseRecorder
	from io.Reader
}

func (w *readerFrom) ReadFrom(r io.Reader) (int64, error) {
	w.from = r
	return io.Copy(w.ResponseRecorder, r)
}

// A file that was exchanged within the same second, by one of the same time or of the same size, is another file.
func TestStaticTags(t *testing.T) {
	dir := tree(t)
	s := start(t, Config{Routes: []Route{{Path: "/", Static: dir}}})
	name, stamp := filepath.Join(dir, "a.txt"), time.Unix(1_700_000_000, 123)
	put := func(content string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(name+".new", []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chtimes(name+".new", at, at), os.Rename(name+".new", name)); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(field, value string) (*http.Response, string) {
		t.Helper()
		req, _ := http.NewRequest("GET", s.URL+"/a.txt", nil)
		req.Header.Set("Range", "bytes=1-")
		req.Header.Set(field, value)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body(t, resp)
	}
	put("abc", stamp)
	resp, _ := ask("X", "")
	old := resp.Header.Get("Etag")
	if resp, got := ask("If-None-Match", old); resp.StatusCode != 304 {
		t.Errorf("unchanged: %s %q", resp.Status, got)
	}
	if resp, got := ask("If-Range", old); resp.StatusCode != 206 || got != "bc" {
		t.Errorf("a range of what is unchanged: %s %q", resp.Status, got)
	}
	for content, at := range map[string]time.Time{"abcdef": stamp, "ABC": stamp.Add(1000)} {
		put(content, at)
		if resp, got := ask("If-None-Match", old); resp.StatusCode != 206 || got != content[1:] ||
			resp.Header.Get("Etag") == old {
			t.Errorf("%s: %s %q", content, resp.Status, got)
		}
		if resp, got := ask("If-Range", old); resp.StatusCode != 200 || got != content {
			t.Errorf("%s, a range: %s %q", content, resp.Status, got)
		}
	}
	if resp, _ := get(t, s.URL+"/sub/"); resp.Header.Get("Etag") == "" {
		t.Error("an index.html has no tag")
	}
	if resp, _ := get(t, s.URL+"/none"); resp.Header.Get("Etag") != "" {
		t.Error("what is not there has a tag")
	}
}

// A directory, or a link to one, that is put in the place of another one is served, and in between the old one.
func TestStaticDirectoryIsReplaced(t *testing.T) {
	top := t.TempDir()
	release := func(name, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, name, "version"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	release("www", "1")
	release("next", "2")
	release("3", "3")
	s := start(t, Config{Routes: []Route{{Path: "/", Static: filepath.Join(top, "www")}}})
	await := func(want, meanwhile string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; {
			_, got := get(t, s.URL+"/version")
			if got == want {
				return
			}
			if got != meanwhile || time.Now().After(end) {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(top, from), filepath.Join(top, to)); err != nil {
			t.Fatal(err)
		}
	}
	await("1", "")
	rename("www", "old")
	if _, got := get(t, s.URL+"/version"); got != "1" {
		t.Errorf("while there is none: %q", got)
	}
	rename("next", "www")
	await("2", "1")
	if err := errors.Join(os.Symlink("3", filepath.Join(top, "link")),
		os.RemoveAll(filepath.Join(top, "www"))); err != nil {
		t.Fatal(err)
	}
	rename("link", "www")
	await("3", "404 page not found\n")
}
