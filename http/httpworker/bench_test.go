package httpworker

import (
	"io"
	"net"
	"net/http"
	"testing"
)

// BenchmarkKeepAlive compares a Worker with a net/http server that has the same limits: one connection per CPU, one
// request at a time.
func BenchmarkKeepAlive(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	for _, body := range []string{"", "0123456789"} {
		name := "GET"
		if body != "" {
			name = "POST"
		}
		b.Run(name+"/bare", func(b *testing.B) { keepAlive(b, bare(b, hello), body) })
		b.Run(name+"/worker", func(b *testing.B) { keepAlive(b, start(b, Settings{Handler: hello}).Addr(), body) })
	}
}

// BenchmarkConnections is a connection per request.
func BenchmarkConnections(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	b.Run("bare", func(b *testing.B) { connections(b, bare(b, hello)) })
	b.Run("worker", func(b *testing.B) { connections(b, start(b, Settings{Handler: hello}).Addr()) })
}

func bare(b *testing.B, h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{
		Handler: h, MaxHeaderBytes: DefaultMaxHeaderSize,
		ReadHeaderTimeout: DefaultReceiveTimeout, IdleTimeout: DefaultIdleTimeout,
	}
	go func() { _ = srv.Serve(ln) }()
	b.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().String()
}

func request(body string) []byte {
	if body == "" {
		return []byte("GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	}
	return []byte("POST / HTTP/1.1\r\nHost: h\r\nUser-Agent: bench\r\nContent-Length: 10\r\n\r\n" + body)
}

func keepAlive(b *testing.B, addr, body string) {
	req := request(body)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		buf := make([]byte, 4096)
		for pb.Next() {
			if _, err := c.Write(req); err != nil {
				b.Error(err)
			}
			if n, err := c.Read(buf); err != nil || n < 20 {
				b.Error(n, err)
			}
		}
	})
}

func connections(b *testing.B, addr string) {
	req := []byte("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = c.Write(req)
			if b2, err := io.ReadAll(c); err != nil || len(b2) < 20 {
				b.Error(len(b2), err)
			}
			_ = c.Close()
		}
	})
}
