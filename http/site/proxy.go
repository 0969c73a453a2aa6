package site

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"baton/http/internal/proxy"
)

// idleTimeout is how long a connection to an upstream is kept. Servers close theirs after two seconds and more: a
// request must not meet that.
const idleTimeout = time.Second

func newProxy(to string, cfg Config) (http.Handler, error) {
	target, err := ParseUpstream(to)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	trusted, err := proxy.ParseTrusted(cfg.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("trusted proxies: %w", err)
	}
	return &proxy.Proxy{
		Upstream: &proxy.Upstream{Dial: dialer(target), Timeout: cfg.UpstreamTimeout, IdleTimeout: idleTimeout},
		Name:     to, Log: cfg.Log, Observe: cfg.Observe, Trusted: trusted, Relay: cfg.Relay,
		Host: target.Host,
		Base: strings.TrimSuffix(target.EscapedPath(), "/"),
	}, nil
}

// CheckTrusted says what is wrong with one of TrustedProxies.
func CheckTrusted(s string) error {
	_, err := proxy.ParseTrusted([]string{s})
	return err
}

// dialer opens connections to an upstream. It never uses a proxy of the environment.
func dialer(to *url.URL) func(context.Context) (net.Conn, error) {
	plain := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if to.Scheme == "http" {
		addr := net.JoinHostPort(to.Hostname(), cmp.Or(to.Port(), "80"))
		return func(ctx context.Context) (net.Conn, error) { return plain.DialContext(ctx, "tcp", addr) }
	}
	secure := &tls.Dialer{
		NetDialer: plain, Config: &tls.Config{ServerName: to.Hostname(), NextProtos: []string{"http/1.1"}},
	}
	addr := net.JoinHostPort(to.Hostname(), cmp.Or(to.Port(), "443"))
	return func(ctx context.Context) (net.Conn, error) { return secure.DialContext(ctx, "tcp", addr) }
}

// ParseUpstream parses the URL of a route's Proxy.
func ParseUpstream(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not a URL", s)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q: want a URL with http:// or https://", s)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q: names no host", s)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q: want no more than scheme, host, port and path", s)
	}
	return u, nil
}
