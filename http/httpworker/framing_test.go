package httpworker

import (
	"bytes"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	for _, test := range []struct {
		in   string
		want int // the header's size, or 0 if it has no end
	}{
		{"GET / HTTP/1.1\r\n\r\nrest", 18},
		{"GET / HTTP/1.1\n\nrest", 16},
		{"GET / HTTP/1.1\r\nA: b\n\r\n", 23},
		{"\r\n\r\nGET /\r\n\r\n", 13},
		{"GET /\r\n \r\n\r\n", 12},
		{"GET /\r\n\r\r\n\r\n", 12},
		{"GET /\r\n\r", 0},
		{"\n\n\n", 0},
		{"", 0},
	} {
		for piece := 1; piece <= len(test.in)+1; piece++ {
			var l lines
			if got := inPieces(test.in, piece, l.scan); got != test.want {
				t.Errorf("%q by %d: got %d, want %d", test.in, piece, got, test.want)
			}
		}
	}
}

// inPieces returns after how many bytes scan finds the end.
func inPieces(s string, size int, scan func([]byte) (int, bool)) int {
	for at := 0; at < len(s); {
		n, end := scan([]byte(s[at:min(at+size, len(s))]))
		at += n
		if end {
			return at
		}
	}
	return 0
}

func TestChunks(t *testing.T) {
	for _, body := range []string{
		"0\r\n\r\n",
		"00000\r\n\r\n",
		"1\r\na\r\n0\r\n\r\n",
		"A;ext=\"1\"\r\n0123456789\r\n0;x\r\n\r\n",
		"fF \r\n" + strings.Repeat("\n", 255) + "\r\n0\r\n\r\n",
		"1\r\na\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
	} {
		for piece := 1; piece <= len(body)+4; piece++ {
			var c chunks
			if got := inPieces(body+"GET ", piece, c.scan); got != len(body) {
				t.Errorf("%q by %d: got %d, want %d", body, piece, got, len(body))
			}
		}
	}
}

// Where the standard library finds a well-formed body to end, chunks does.
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
		var c chunks
		if got, want := inPieces(string(body), int(piece)+1, c.scan), len(body)-r.Len()+2; got != want {
			t.Errorf("%q: ends at %d, want %d", body, got, want)
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
