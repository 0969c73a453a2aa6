package proxy

import (
	"bufio"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// hopByHop are the fields that are about one connection, beside those that Connection names, and those that a proxy
// writes itself.
var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true,
	"Te":                  true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Http2-Settings": true,
}

// ownFields are what a request gets from the proxy, whatever the client says.
var ownFields = map[string]bool{
	"Content-Length": true, "Expect": true, "Host": true,
	"X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true,
}

// connectionFields are the fields that Connection names.
func connectionFields(h http.Header) (names map[string]bool) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
			if name != "" && name != "Close" && name != "Keep-Alive" {
				if names == nil {
					names = make(map[string]bool)
				}
				names[name] = true
			}
		}
	}
	return names
}

// upgrade is the protocol that a request asks for, "" if none or one that the proxy does not let through: with HTTP/2
// the client would speak to the upstream past all routes.
func upgrade(h http.Header) string {
	up := h.Get("Upgrade")
	if up == "" || !connectionFields(h)["Upgrade"] {
		return ""
	}
	for token := range strings.SplitSeq(up, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(token), "/")
		if strings.EqualFold(name, "h2c") || strings.EqualFold(name, "h2") {
			return ""
		}
	}
	return up
}

// writeHeader writes the request's line and header.
func (x *exchange) writeHeader(w *bufio.Writer) {
	r := x.r
	_, _ = w.WriteString(r.Method)
	_ = w.WriteByte(' ')
	_, _ = w.WriteString(x.target())
	_, _ = w.WriteString(" HTTP/1.1\r\n")
	field(w, "Host", x.host())
	x.ip, x.trusted = x.client()
	named := connectionFields(r.Header)
	for name, values := range r.Header {
		if !named[name] {
			x.pass(w, name, values)
		}
	}
	x.writeForwarded(w)
	x.writeFraming(w)
	if up := upgrade(r.Header); up != "" {
		field(w, "Connection", "Upgrade")
		field(w, "Upgrade", up)
	}
	if strings.EqualFold(r.Header.Get("Te"), "trailers") {
		field(w, "Te", "trailers")
	}
	_, _ = w.WriteString("\r\n")
}

// pass writes a field of the client's, if it is not for the proxy.
func (x *exchange) pass(w io.StringWriter, name string, values []string) {
	if hopByHop[name] || ownFields[name] || !x.trusted && claims(name) {
		return
	}
	for _, v := range values {
		field(w, name, v)
	}
}

// target is what the request line names.
func (x *exchange) target() string { return x.p.Base + x.r.URL.RequestURI() }

func (x *exchange) host() string {
	if x.p.Host != "" {
		return x.p.Host
	}
	return x.r.Host
}

// writeFraming says how the body is framed.
func (x *exchange) writeFraming(w *bufio.Writer) {
	switch n := x.r.ContentLength; {
	case n > 0:
		field(w, "Content-Length", strconv.FormatInt(n, 10))
	case n < 0:
		field(w, "Transfer-Encoding", "chunked")
		for name := range x.r.Trailer {
			field(w, "Trailer", name)
		}
	case x.r.Method == http.MethodPost || x.r.Method == http.MethodPut || x.r.Method == http.MethodPatch:
		field(w, "Content-Length", "0")
	}
	if x.expects {
		field(w, "Expect", "100-continue")
	}
}

func field(w io.StringWriter, name, value string) {
	_, _ = w.WriteString(name)
	_, _ = w.WriteString(": ")
	_, _ = w.WriteString(value)
	_, _ = w.WriteString("\r\n")
}
