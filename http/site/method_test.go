package site

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestMethods: every route answers the methods that it has, and others with 405 and Allow.
func TestMethods(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == "CONNECT" || r.Method == "TRACE" {
			t.Errorf("the upstream got a %s", r.Method)
		}
	}))
	defer up.Close()
	routes := start(t, Config{Routes: []Route{
		{Path: "/whoami", Whoami: true},
		{Path: "/text", Respond: text("x")},
		{Path: "/slow", Respond: text("x"), Delay: 1},
		{Path: "/down", Respond: text("later"), Status: 503},
		{Path: "/files", Static: tree(t)},
		{Path: "/echo", Echo: true},
		{Path: "/up", Proxy: up.URL},
		{Path: "/", Static: tree(t)},
	}})
	builtin := start(t, Config{})
	const readable, all = "GET, HEAD, OPTIONS", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	for _, tt := range []struct {
		url, path   string
		get, others int // statuses
	}{
		{routes.URL, "/whoami", 200, 405},
		{routes.URL, "/text", 200, 405},
		{routes.URL, "/slow", 200, 405},
		{routes.URL, "/down", 503, 503},
		{routes.URL, "/files/a.txt", 200, 405},
		{routes.URL, "/a.txt", 200, 405},
		{routes.URL, "/none", 404, 405},
		{routes.URL, "/echo", 200, 200},
		{routes.URL, "/up", 200, 200},
		{builtin.URL, "/", 200, 405},
		{builtin.URL, "/whoami", 200, 405},
	} {
		for method, want := range map[string]int{
			"GET": tt.get, "HEAD": tt.get, "POST": tt.others, "PUT": tt.others, "DELETE": tt.others, "PATCH": tt.others,
			"PROPFIND": tt.others,
			"CONNECT":  405, "TRACE": 405,
		} {
			c, r := dial(t, tt.url)
			send(t, c, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: h\r\n\r\n", method, tt.path))
			resp, err := http.ReadResponse(r, &http.Request{Method: strings.Replace(method, "CONNECT", "GET", 1)})
			if err != nil {
				t.Fatal(method, tt.path, err)
			}
			allow := resp.Header.Get("Allow")
			if resp.StatusCode != want || (allow != "") != (want == 405) {
				t.Errorf("%s %s: %s, Allow %q, want %d", method, tt.path, resp.Status, allow, want)
			}
			if wantAllow := allow != all && allow != readable; want == 405 && wantAllow {
				t.Errorf("%s %s: Allow %q", method, tt.path, allow)
			}
		}
		req, _ := http.NewRequest("OPTIONS", tt.url+tt.path, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if tt.others == 405 && (resp.StatusCode != 204 || resp.Header.Get("Allow") != readable) {
			t.Errorf("OPTIONS %s: %s %q", tt.path, resp.Status, resp.Header.Get("Allow"))
		}
	}
	c, r := dial(t, routes.URL)
	send(t, c, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 405 {
		t.Errorf("CONNECT a:443: %+v, %v", resp, err)
	}
}
