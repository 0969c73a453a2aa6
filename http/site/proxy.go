package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

// newTransport returns what keeps the connections to upstreams, with the limit of a [timeoutTransport]. It never uses a
// proxy of the environment, and hands bodies on as they are encoded.
func newTransport(timeout time.Duration) http.RoundTripper {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return timeoutTransport{&http.Transport{
		DialContext:           dialer.DialContext,
		MaxIdleConnsPerHost:   1024,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		WriteBufferSize:       bufferSize,
		ReadBufferSize:        bufferSize,
	}, timeout}
}

func newProxy(to string, transport http.RoundTripper) (http.Handler, error) {
	target, err := ParseUpstream(to)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.RawQuery = r.In.URL.RawQuery // ReverseProxy drops what it cannot parse
			r.SetURL(target)
			r.SetXForwarded()
			dropHTTP2(r.Out.Header)
		},
		Transport:     transport,
		FlushInterval: -1, // at once: the upstream knows why it flushed
		BufferPool:    bufferPool{},
		ErrorHandler:  badGateway,
		ErrorLog:      log.New(io.Discard, "", 0), // the answer says it
	}, nil
}

// dropHTTP2 drops a request to go on in HTTP/2: the upstream would obey, and the client would speak to it past all routes.
// Other upgrades, WebSocket for one, are the upstream's business.
func dropHTTP2(h http.Header) {
	h.Del("Http2-Settings")
	for token := range strings.SplitSeq(h.Get("Upgrade"), ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(token), "/")
		if strings.EqualFold(name, "h2c") || strings.EqualFold(name, "h2") {
			h.Del("Upgrade")
			h.Del("Connection")
			return
		}
	}
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

func badGateway(w http.ResponseWriter, r *http.Request, err error) {
	var body *bodyError
	switch {
	case errors.As(err, &body):
		body.answer(w, r)
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client has gone, or the deadline has come
	case isTimeout(err):
		http.Error(w, "504 gateway timeout: "+errUpstreamTimeout.Error(), http.StatusGatewayTimeout)
	default:
		http.Error(w, "502 bad gateway: "+reason(err), http.StatusBadGateway)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, errUpstreamTimeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// reason returns the innermost cause: the addresses around it are not for strangers.
func reason(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "the upstream's name is not known"
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

type bufferPool struct{}

func (bufferPool) Get() []byte  { return buffers.Get().(*[bufferSize]byte)[:] }
func (bufferPool) Put(b []byte) { buffers.Put((*[bufferSize]byte)(b)) }
