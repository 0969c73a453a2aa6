package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"testing"
	"time"
)

func BenchmarkProxy(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	up := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})}
	go func() { _ = up.Serve(ln) }()
	defer func() { _ = up.Close() }()
	dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) }
	target, _ := url.Parse("http://x")
	for name, h := range map[string]http.Handler{
		"own": &Proxy{Upstream: &Upstream{Dial: dial, IdleTimeout: time.Second, Timeout: time.Minute}},
		"std": &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() },
			Transport: &http.Transport{
				DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
				MaxIdleConnsPerHost: 100,
			},
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("User-Agent", "x")
				r.Header.Set("Accept", "*/*")
				for pb.Next() {
					ctx, cancel := context.WithCancel(context.Background())
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r.WithContext(ctx))
					cancel()
					if w.Body.String() != "hello" {
						b.Fatal(w.Body.String())
					}
				}
			})
		})
	}
}
