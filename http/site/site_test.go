package site

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

var self = Self{Generation: 3, Slot: 1, PID: 4711, Version: "v2"}

func text(s string) *string { return &s }

// start serves cfg until the test ends.
func start(t *testing.T, cfg Config) *httptest.Server {
	t.Helper()
	h, err := New(cfg, self, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// noRedirects shows redirects instead of following them.
var noRedirects = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := noRedirects.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body(t, resp)
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLongestPathWins(t *testing.T) {
	s := start(t, Config{Routes: []Route{
		{Path: "/api", Respond: text("api")},
		{Path: "/", Respond: text("root")},
		{Path: "/api/v1/", Respond: text("v1")},
	}})
	for _, tt := range []struct{ path, want string }{
		{"/", "root"},
		{"/x", "root"},
		{"/apix", "root"},
		{"//", "root"},
		{"/ap", "root"},
		{"/api", "api"},
		{"/api/", "api"},
		{"/api/v", "api"},
		{"/api/v10", "api"},
		{"/%61pi", "api"},
		{"/api/v1", "v1"},
		{"/api/v1/", "v1"},
		{"/api/v1/x?y=/", "v1"},
		{"/x/../api/v1", "v1"},
		{"/api/v1/..", "api"},
	} {
		if _, got := get(t, s.URL+tt.path); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.path, got, tt.want)
		}
	}
}

func TestNoRouteIsNotFound(t *testing.T) {
	s := start(t, Config{Routes: []Route{{Path: "/api", Respond: text("api")}}})
	if resp, _ := get(t, s.URL+"/"); resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		routes []Route
		want   string
	}{
		{
			"no way to answer",
			[]Route{{Path: "/"}},
			"route /: want one of whoami, static, proxy, program, respond and echo",
		},
		{
			"two ways",
			[]Route{{Path: "/", Whoami: true, Echo: true}},
			"route /: want one of whoami, static, proxy, program, respond and echo",
		},
		{"no slash", []Route{{Path: "x", Whoami: true}}, "route x: want a path that begins with /"},
		{
			"same path",
			[]Route{{Path: "/x", Whoami: true}, {Path: "/x/", Echo: true}},
			"route /x/: there are two of this path",
		},
		{
			"no directory",
			[]Route{{Path: "/", Static: "testdata/none"}},
			"route /: static: open testdata/none: no such file or directory",
		},
		{"no host", []Route{{Path: "/", Proxy: "http://"}}, `route /: proxy: "http://": names no host`},
		{
			"no scheme",
			[]Route{{Path: "/", Proxy: "localhost:80"}},
			`route /: proxy: "localhost:80": want a URL with http:// or https://`,
		},
	} {
		if _, err := New(Config{Routes: tt.routes}, self, nil); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestConfigSurvivesJSON(t *testing.T) {
	in := Config{Routes: []Route{
		{Path: "/", Whoami: true},
		{Path: "/s", Static: "/srv"},
		{Path: "/p", Proxy: "http://x"},
		{Path: "/e", Echo: true},
		{Path: "/r", Respond: text(""), Status: 503, Delay: time.Second},
	}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Config
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(out)
	if err != nil || string(again) != string(b) {
		t.Errorf("%s, %v\nwant %s", again, err, b)
	}
	if r := out.Routes[4]; len(r.Actions()) != 1 || r.Delay != time.Second {
		t.Errorf("%+v", r)
	}
}

func TestWhoami(t *testing.T) {
	s := start(t, Config{Routes: []Route{{Path: "/", Whoami: true}}})
	resp, got := get(t, s.URL+"/any/path")
	if want := `{"generation":3,"slot":1,"pid":4711,"version":"v2"}` + "\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/json" || resp.ContentLength != int64(len(got)) {
		t.Errorf("%s, length %d", ct, resp.ContentLength)
	}
	head, err := http.Head(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if b := body(t, head); b != "" || head.ContentLength != int64(len(got)) {
		t.Errorf("HEAD: %q, length %d", b, head.ContentLength)
	}
}

func TestBuiltInPage(t *testing.T) {
	s := start(t, Config{})
	if resp, got := get(t, s.URL+"/"); resp.StatusCode != 200 || !strings.Contains(got, "baton serves") ||
		resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%s %s", resp.Status, got)
	}
	if _, got := get(t, s.URL+"/whoami"); !strings.Contains(got, `"generation":3`) {
		t.Error(got)
	}
	if resp, _ := get(t, s.URL+"/other"); resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status)
	}
}

// TestManyRoutes: each of many routes is found, and adding them takes no time that grows with their square.
func TestManyRoutes(t *testing.T) {
	const n = 50_000
	var cfg Config
	for i := range n {
		cfg.Routes = append(cfg.Routes, Route{Path: fmt.Sprintf("/%d/x", i), Respond: text(fmt.Sprint(i))})
	}
	h, err := New(cfg, self, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, n / 2, n - 1} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", fmt.Sprintf("/%d/x/y", i), nil))
		if got := w.Body.String(); got != fmt.Sprint(i) {
			t.Errorf("route %d: %q", i, got)
		}
	}
}
