package strict

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
)

// passes has a scanner follow s in pieces, and returns what net/http gets.
func (s *Scanner) passes(text string, piece int) (got string) {
	for len(text) > 0 {
		p := []byte(text[:min(piece, len(text))])
		text = text[len(p):]
		got += string(p[:s.Take(p)])
	}
	return got
}

func TestDefects(t *testing.T) {
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
		q := &http.Request{ProtoMajor: 1, ProtoMinor: 1}
		if strings.Contains(test.in, "HTTP/1.0") {
			q.ProtoMinor = 0
		}
		for piece := 1; piece <= len(test.in); piece++ {
			s := Scanner{Max: 1000}
			s.passes(test.in, piece)
			if len(s.ahead) != 1 || s.size != 0 {
				t.Fatalf("%q by %d: %d headers end", test.in, piece, len(s.ahead))
			}
			got := s.Next().Refusal(q)
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("%q by %d: %q, want %q", test.in, piece, got, test.want)
			}
		}
	}
}

// Where headers end, and requests.
func TestEnds(t *testing.T) {
	const get = "GET / HTTP/1.1\r\n\r\n"
	var chunked []string
	for _, body := range []string{
		"0\r\n\r\n",
		"00000\r\n\r\n",
		"1\r\na\r\n0\r\n\r\n",
		"A;ext=\"1\"\r\n0123456789\r\n0;x\r\n\r\n",
		"fF \r\n" + strings.Repeat("\n", 255) + "\r\n0\r\n\r\n",
		"1\r\na\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
	} {
		chunked = append(chunked, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
	}
	for _, one := range append(chunked, get, "GET / HTTP/1.1\n\n", "GET / HTTP/1.1\r\nA: b\n\r\n", "GET /\r\n \r\n\r\n",
		"GET /\r\n\r\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\n\r\n",
		"POST / HTTP/1.1\r\ncontent-length:  0 \r\n\r\n") {
		text := "\r\n\r\n" + one + "\r\n" + one + get
		for piece := 1; piece <= len(text)+1; piece++ {
			s := Scanner{Max: len(text)}
			if got := s.passes(text, piece); got != one+one+get || len(s.ahead) != 3 || s.part != partHeader ||
				s.size != 0 {
				t.Errorf("%q by %d: got %q, %d requests", text, piece, got, len(s.ahead))
			}
		}
	}
}

// What a connection is told of what has begun.
func TestBegan(t *testing.T) {
	s := Scanner{Max: 30}
	state := func() string {
		return fmt.Sprintf("began %v, body %v, large %v, tls %v", s.Began(), s.InBody(), s.TooLarge(), s.IsTLS())
	}
	want := func(what, want string) {
		t.Helper()
		for _, field := range []string{"began", "body", "large", "tls"} {
			if got := strings.Contains(state(), field+" true"); got != strings.Contains(want, field) {
				t.Errorf("%s: %s, want %q", what, state(), want)
			}
		}
	}
	want("nothing", "")
	s.passes("\r\n", 1)
	want("an empty line", "")
	s.passes("POST / HTTP/1.1\r\n", 3)
	want("half a header", "began")
	s.passes("Content-Length:5\r\n\r\nab", 3)
	want("a header, and nobody was called", "began")
	if s.Next().TooLarge() != true {
		t.Error("a header that is too large is not")
	}
	want("in its body", "body")
	s.passes("cde", 2)
	want("its body has ended", "")
	s.passes("G", 1)
	want("the next", "began")
	if !s.Idle() {
		t.Error("the next is forgotten")
	}
	s.passes(strings.Repeat("x", 28), 28)
	want("almost too long", "began")
	s.passes("x", 1)
	want("too long", "began large")
	s = Scanner{Max: 30}
	s.passes("\r\n\x16\x03", 1)
	want("a handshake", "began tls")
	s.Stop()
	if got := s.passes("\r\nanything", 4); got != "\r\nanything" {
		t.Errorf("got %q", got)
	}
	want("something else", "")
}

// An empty line behind a request that may begin another protocol is no end of anything.
func TestForeign(t *testing.T) {
	for _, head := range []string{
		"CONNECT h:1 HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nupgrade: x\r\n\r\n",
	} {
		s := Scanner{Max: 100}
		if got := s.passes(head+"\r\n\n x", 7); got != head+"\r\n\n x" {
			t.Errorf("%q", got)
		}
	}
}

// FuzzPieces: how bytes come in pieces changes nothing.
func FuzzPieces(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\n x\r\r\nA: b\r\n\r\nrest",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET",
		"POST / HTTP/1.1\r\nTransfer-Encoding:x\r\n\r\nA;x\r\n0123456789\r\n0\r\nT: x\r\n\r\nGET",
		"POST / HTTP/1.1\r\nTransfer-Encoding:x\r\n\r\nfffffffffffffffff\r\n", "CONNECT x\n\n5\nhello\n0\n\nGET",
	} {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, text string, piece uint8) {
		a, b := Scanner{Max: 1 << 20}, Scanner{Max: 1 << 20}
		whole, cut := a.passes(text, len(text)+1), b.passes(text, int(piece)+1)
		ends := slices.Equal(a.ahead, b.ahead)
		a.ahead, b.ahead = nil, nil
		if whole != cut || !ends || fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
			t.Errorf("%q by %d: %q %+v, %q %+v", text, piece, whole, a, cut, b)
		}
	})
}

// FuzzChunks: a well-formed body ends where the standard library finds its end.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{"0\r\n", "1\r\na\r\n0\r\n", "a;b=c\r\n0123456789\r\n0\r\n", "x\r\n", "1\r\nab0\r\n"} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, body []byte, piece uint8) {
		body = append(body, "\r\nnext"...) // the trailer's end
		r := bytes.NewReader(body)
		if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(oneByte{r})); err != nil {
			return
		}
		if rest := body[len(body)-r.Len():]; !bytes.HasPrefix(rest, []byte("\r\n")) {
			return // a trailer of its own
		}
		s := Scanner{Max: 1 << 20}
		s.passes("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 100)
		s.Next()
		end := len(body) - r.Len() + 2
		s.passes(string(body[:end-1]), int(piece)+1)
		if !s.InBody() {
			t.Errorf("%q: ends before %d", body, end)
		}
		if s.passes(string(body[end-1:end]), 1); s.InBody() || s.Began() {
			t.Errorf("%q: does not end at %d", body, end)
		}
	})
}

// oneByte keeps a bufio.Reader from reading beyond what it is asked for.
type oneByte struct{ r io.ByteReader }

func (o oneByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := o.r.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

func BenchmarkScanner(b *testing.B) {
	request := []byte("GET /path?query HTTP/1.1\r\nHost: example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux " +
		"x86_64)\r\n" +
		"Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nCookie: a=b; c=d\r\nContent-Length: " +
		"17\r\n\r\n01234567890123456")
	s := Scanner{Max: 8192}
	b.ReportAllocs()
	for b.Loop() {
		if s.Take(request) != len(request) || s.Next() != (Request{defects: hasLength}) || s.Began() {
			b.Fatal(s)
		}
	}
}
