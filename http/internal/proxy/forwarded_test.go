package proxy

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestForwarded: what a client says about where a request comes from is true if the client is a trusted proxy, and is
// dropped otherwise.
func TestForwarded(t *testing.T) {
	const v4, v6, unix = "192.0.2.1:80", "[fe80::1%eth0]:80", "@"
	said := http.Header{
		"X-Forwarded-For": {"10.0.0.1", "10.0.0.2, 10.0.0.3"}, "X-Forwarded-Host": {"outside"},
		"X-Forwarded-Proto": {"gopher", "https"}, "X-Forwarded-Port": {"443"}, "X-Real-Ip": {"10.0.0.1"},
		"Forwarded": {"for=10.0.0.1"}, "X_forwarded_for": {"10.0.0.1"}, "X_real-Ip": {"10.0.0.1"}, "X-A_b": {"1"},
	}
	believed := func(added string) http.Header {
		h := maps.Clone(said)
		h["X-Forwarded-For"] = []string{"10.0.0.1, 10.0.0.2, 10.0.0.3" + added}
		h["X-Forwarded-Proto"] = []string{"https"}
		return h
	}
	replaced := func(ip string) http.Header {
		h := http.Header{"X-Forwarded-Host": {"example.com"}, "X-Forwarded-Proto": {"http"}, "X-A_b": {"1"}}
		if ip != "" {
			h.Set("X-Forwarded-For", ip)
		}
		return h
	}
	for _, tt := range []struct {
		client, trusted string
		want            http.Header
	}{
		{v4, "", replaced("192.0.2.1")},
		{v4, "192.0.2.1", believed(", 192.0.2.1")},
		{v4, "10.0.0.0/8 192.0.2.77/24", believed(", 192.0.2.1")},
		{v4, "192.0.2.2 unix: ::/0", replaced("192.0.2.1")},
		{v4, "::ffff:192.0.2.1", believed(", 192.0.2.1")},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1", believed(", ::ffff:192.0.2.1")},
		{v6, "fe80::/10", believed(", fe80::1%eth0")},
		{v6, "0.0.0.0/0", replaced("fe80::1%eth0")},
		{unix, "0.0.0.0/0 ::/0", replaced("")},
		{unix, "unix:", believed("")},
	} {
		got := http.Header{}
		p := serve(0, func(c net.Conn, r *bufio.Reader) {
			req, _ := http.ReadRequest(r)
			got = req.Header
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		})
		var err error
		if p.Trusted, err = ParseTrusted(strings.Fields(tt.trusted)); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header, r.RemoteAddr = maps.Clone(said), tt.client
		p.ServeHTTP(httptest.NewRecorder(), r)
		if !maps.EqualFunc(got, tt.want, func(a, b []string) bool { return strings.Join(a, "|") == strings.Join(b, "|") }) {
			t.Errorf("%s, trusted %q:\n got %v\nwant %v", tt.client, tt.trusted, got, tt.want)
		}
	}
}

func TestParseTrusted(t *testing.T) {
	for _, s := range []string{"", "localhost", "10.0.0.0/33", "10.0.0", "unix:/run/x", "10.0.0.1:80"} {
		if _, err := ParseTrusted([]string{s}); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
