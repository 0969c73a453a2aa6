package httpworker

import (
	"net/http"
	"strings"
	"testing"
)

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		in   string
		want string // in the refusal
	}{
		{"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nC: 2\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nT: x\r\n\r\n", ""},
		{"\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", ""}, // behind a POST
		{"GET / HTTP/1.1\nHost: h\r\n\r\n", "CR LF"},
		{"GET / HTTP/1.1\r\nHost: h\n\r\n", "CR LF"},
		{"GET / HTTP/1.1\r\nHost: h\r\n\n", "CR LF"},
		{"GET / HTTP/1.1\r\nHost: h\r\n x\r\n\r\n", "space"},
		{"GET / HTTP/1.1\r\n\tx: h\r\n\r\n", "space"},
		{"GET / HTTP/1.1\r\n: h\r\n\r\n", "no name"},
		{"GET / HTTP/1.1\r\ncontent-length: 1\r\nHost: h\r\nCONTENT-LENGTH:1\r\n\r\n", "two"},
		{"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding:x\r\n\r\n", "and"},
		{"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"},
	} {
		r := &http.Request{ProtoMajor: 1, ProtoMinor: 1}
		if strings.Contains(test.in, "HTTP/1.0") {
			r.ProtoMinor = 0
		}
		for piece := 1; piece <= len(test.in); piece++ {
			var l lines
			if got := inPieces(test.in, piece, l.scan); got != len(test.in) {
				t.Fatalf("%q by %d: ends after %d", test.in, piece, got)
			}
			got := l.faults.refusal(r)
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("%q by %d: %q, want %q", test.in, piece, got, test.want)
			}
		}
	}
}

func BenchmarkLines(b *testing.B) {
	request := []byte("GET /path?query HTTP/1.1\r\nHost: example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
		"Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nCookie: a=b; c=d\r\nContent-Length: 17\r\n\r\n")
	for b.Loop() {
		var l lines
		if _, end := l.scan(request); !end || l.faults != hasLength {
			b.Fatal(l)
		}
	}
}
