package httpworker

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"baton/worker/workertest"
)

// logBook is a log that can be read.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// nonsense is what clients send that is no request.
var nonsense = []string{
	"nonsense\r\n\r\n",
	"GET / HTTP/1.1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 9000) + "\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
	"\x16\x03\x01\x00\x10",
	preface + "nonsense that is no frame",
	preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x08\x07\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x01", // GOAWAY
}

// TestClientsWriteNoErrors: what any client can cause is for debugging.
func TestClientsWriteNoErrors(t *testing.T) {
	t.Parallel()
	var book logBook
	for _, p := range []*workertest.Process{
		workertest.Start(t, Handler(http.HandlerFunc(echo)), workertest.Options{Log: book.logger()}),
		startTLSWith(t, Settings{}, workertest.Options{Log: book.logger()}),
	} {
		for _, s := range nonsense {
			c := dial(t, p)
			c.send(s)
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}
	}
	p := startTLSWith(t, Settings{}, workertest.Options{Log: book.logger()})
	for _, s := range nonsense {
		if strings.HasPrefix(s, preface) {
			c := dialTLS(t, p, clientTLS(protoH2))
			c.send(s)
			_ = c.tls.CloseWrite()
			_, _ = io.Copy(io.Discard, c.tls)
		}
	}
	for line := range strings.Lines(book.String()) {
		if !strings.Contains(line, "level=DEBUG") {
			t.Error(line)
		}
	}
	if !strings.Contains(book.String(), "http2: ") { // else it tests nothing
		t.Errorf("net/http has said nothing of HTTP/2: %s", book.String())
	}
}

// TestHandshakeFails: it is said whose, and why, for debugging.
func TestHandshakeFails(t *testing.T) {
	t.Parallel()
	var book logBook
	p := startTLSWith(t, Settings{}, workertest.Options{Log: book.logger()})
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := tls.Client(c, &tls.Config{ServerName: "127.0.0.1"}).Handshake(); err == nil {
		t.Fatal("a certificate that nobody has signed was accepted")
	}
	waitFor(t, func() bool { return strings.Contains(book.String(), "tls handshake failed") })
	for _, want := range []string{"level=DEBUG", c.LocalAddr().String(), "bad certificate"} {
		if !strings.Contains(book.String(), want) {
			t.Errorf("no %q in %s", want, book.String())
		}
	}
}

// TestHandlersMistakes: those are for an operator.
func TestHandlersMistakes(t *testing.T) {
	t.Parallel()
	var book logBook
	p := workertest.Start(t, Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		w.WriteHeader(http.StatusNoContent)
		if r.URL.Path == "/panic" {
			panic("on purpose")
		}
	})), workertest.Options{Log: book.logger()})
	c := dial(t, p)
	c.send(get("/"))
	c.want(http.StatusNoContent, "")
	c.send(get("/panic"))
	c.wantClosed()
	for _, want := range []string{"level=WARN msg=\"http: superfluous", "level=ERROR msg=\"http: panic serving"} {
		if !strings.Contains(book.String(), want) {
			t.Errorf("no %q in %s", want, book.String())
		}
	}
}
