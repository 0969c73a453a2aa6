package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
)

var (
	errHeaderTooLarge = errors.New("the header of the response is too large")
	errNoResponse     = errors.New("the upstream closed the connection before it answered")
	errNotAsked       = errors.New("the upstream switches protocols unasked")
)

// receive reads the response and hands it on. reusable: the connection has nothing left of this exchange.
func (x *exchange) receive() (reusable bool, err error) {
	for {
		resp, err := x.readHeader() //nolint:bodyclose // it is read to its end, or the connection is closed
		if err != nil {
			return false, err
		}
		switch code := resp.StatusCode; {
		case code == http.StatusContinue:
			x.body.proceeds()
		case code == http.StatusSwitchingProtocols:
			return false, x.switchProtocols(resp)
		case code < http.StatusOK:
			x.inform(resp)
		default:
			x.body.over()
			return x.respond(resp)
		}
	}
}

func (x *exchange) readHeader() (*http.Response, error) {
	x.c.budget = maxHeader
	resp, err := http.ReadResponse(x.c.r, x.r)
	switch {
	case err != nil && x.c.budget == 0:
		err = errHeaderTooLarge
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		err = errNoResponse
	}
	x.c.budget = -1
	return resp, err
}

// inform hands an informational response on, 103 Early Hints for one. A client of HTTP/1.0 would take it for the
// answer.
func (x *exchange) inform(resp *http.Response) {
	if !x.r.ProtoAtLeast(1, 1) {
		return
	}
	h := x.w.Header()
	copyHeader(h, resp.Header)
	x.w.WriteHeader(resp.StatusCode)
	clear(h)
}

// respond hands the response on.
func (x *exchange) respond(resp *http.Response) (reusable bool, err error) {
	h := x.w.Header()
	copyHeader(h, resp.Header)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http guesses one
	}
	if x.r.ProtoAtLeast(1, 1) { // before, there are no chunks that trailers could follow
		for name := range resp.Trailer {
			h.Add("Trailer", name)
		}
	}
	announced := len(resp.Trailer)
	x.status = resp.StatusCode
	x.w.WriteHeader(resp.StatusCode)
	if err := x.copyBody(resp); err != nil {
		return false, err
	}
	for name, values := range resp.Trailer {
		if len(resp.Trailer) != announced {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
	return !resp.Close && x.body.whole(), nil
}

// copyBody hands on what comes, at once if there is more to wait for: the upstream knows why it flushed.
func (x *exchange) copyBody(resp *http.Response) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	rc := http.NewResponseController(x.w)
	for left := resp.ContentLength; ; {
		if left != 0 && x.c.r.Buffered() == 0 && resp.Body != http.NoBody {
			if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return &clientError{err}
			}
		}
		if x.body.whole() { // else the upstream may wait for the client
			x.limit(x.c.SetReadDeadline)
		}
		n, err := resp.Body.Read(buf[:])
		if n > 0 {
			if _, werr := x.w.Write(buf[:n]); werr != nil {
				return &clientError{werr}
			}
		}
		left -= int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func copyHeader(to, from http.Header) {
	named := connectionFields(from)
	for name, values := range from {
		if !hopByHop[name] && !named[name] {
			to[name] = values
		}
	}
}

// stream is one end of an upgraded connection: what was read of it too early comes first.
type stream struct {
	io.Reader
	io.Writer
	io.Closer
}

// switchProtocols makes one connection of the client's and the upstream's, and waits until it ends.
func (x *exchange) switchProtocols(resp *http.Response) error {
	asked, got := upgrade(x.r.Header), resp.Header.Get("Upgrade")
	if asked == "" || !strings.EqualFold(asked, got) {
		return errNotAsked
	}
	nc, rw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	x.status = resp.StatusCode
	writeSwitch(rw.Writer, resp)
	if err := rw.Flush(); err != nil {
		return &clientError{err}
	}
	relay := x.p.Relay
	if relay == nil {
		relay = copyBoth
	}
	relay(x.r.Context(), got, stream{rw.Reader, nc, nc}, stream{x.c.r, x.c.Conn, x.c})
	return nil
}

func writeSwitch(w *bufio.Writer, resp *http.Response) {
	_, _ = w.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
	field(w, "Upgrade", resp.Header.Get("Upgrade"))
	for name, values := range resp.Header {
		for _, v := range values {
			if !hopByHop[name] {
				field(w, name, v)
			}
		}
	}
	_, _ = w.WriteString("\r\n")
}

// copyBoth copies in both directions until one of them ends.
func copyBoth(_ context.Context, _ string, client, upstream io.ReadWriteCloser) {
	ended := make(chan struct{}, 2)
	for _, way := range [][2]io.ReadWriteCloser{{client, upstream}, {upstream, client}} {
		go func() {
			_, _ = io.Copy(way[1], way[0])
			ended <- struct{}{}
		}()
	}
	<-ended
	_, _ = client.Close(), upstream.Close()
	<-ended
}
