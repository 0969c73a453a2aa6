package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// Response is an answer that has been read whole.
type Response struct {
	Class  string
	Status int
	Header map[string]string // keys in lower case; of equal ones the last
	Body   []byte
	Took   time.Duration // since the request was begun

	close bool // the server closes after it
}

// Conn is a connection on which requests are sent. Its methods return errors of a known [Kind].
type Conn struct {
	net.Conn
	r *bufio.Reader

	// used counts the answers read.
	used int

	// made is when it was connected, and heard when the last answer was read, or made.
	made, heard time.Time

	// slow, if set, is called before each read, which is then a small one.
	slow func()

	ws *websocket.Conn // if it has become one

	resent bool // connecting took long, and a SYN was lost
}

// slowRead is how much a slow reader takes at a time.
const slowRead = 32 << 10

// Read reads, slowly if the connection is to be slow.
func (c *Conn) Read(b []byte) (int, error) {
	if c.slow != nil {
		c.slow()
		b = b[:min(len(b), slowRead)]
	}
	return c.Conn.Read(b)
}

// Send writes bytes of a request.
func (c *Conn) Send(b []byte) error {
	_, err := c.Write(b)
	return classify(sending, err)
}

// Receive reads an answer, and those before it that are informational (1xx, but 101).
func (c *Conn) Receive() (*Response, error) {
	for {
		resp, err := c.receiveAny()
		if err != nil || resp.Status >= 200 || resp.Status == 101 {
			return resp, err
		}
	}
}

// receiveAny reads the next answer, of whatever status.
func (c *Conn) receiveAny() (*Response, error) {
	if _, err := c.r.Peek(1); err != nil {
		return nil, classify(waiting, err)
	}
	resp, err := c.receiveHead()
	if err == nil && hasBody(resp.Status) {
		resp.Body, err = c.receiveBody(resp)
	}
	c.used++
	c.heard = time.Now()
	return resp, classify(reading, err)
}

func (c *Conn) receiveHead() (*Response, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	proto, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || !strings.HasPrefix(proto, "HTTP/1.") {
		return nil, failf(Wrong, "not a status line: %.80q", line)
	}
	resp := &Response{Status: status, Header: map[string]string{}, close: proto == "HTTP/1.0"}
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, failf(Wrong, "not a header: %.80q", line)
		}
		resp.Header[strings.ToLower(key)] = strings.TrimSpace(value)
	}
	if strings.EqualFold(resp.Header["connection"], "close") {
		resp.close = true
	}
	return resp, nil
}

func (c *Conn) receiveBody(resp *Response) ([]byte, error) {
	if strings.EqualFold(resp.Header["transfer-encoding"], "chunked") {
		return c.receiveChunks()
	}
	length, ok := resp.Header["content-length"]
	if !ok {
		resp.close = true
		return io.ReadAll(c.r)
	}
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 {
		return nil, failf(Wrong, "Content-Length: %q", length)
	}
	body := make([]byte, n)
	if got, err := io.ReadFull(c.r, body); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, failf(Short, "%d of %d bytes of the body", got, n)
		}
		return nil, err
	}
	return body, nil
}

func (c *Conn) receiveChunks() ([]byte, error) {
	var body bytes.Buffer
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(size, 16, 32)
		if err != nil || n < 0 {
			return nil, failf(Wrong, "not a chunk's size: %.80q", line)
		}
		if _, err := io.CopyN(&body, c.r, n); err != nil {
			return nil, err
		}
		if line, err = c.line(); err != nil { // after the last chunk: the end of no trailers
			return nil, err
		}
		if line != "" {
			return nil, failf(Wrong, "after a chunk: %.80q", line)
		}
		if n == 0 {
			return body.Bytes(), nil
		}
	}
}

func (c *Conn) line() (string, error) {
	line, err := c.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", failf(Wrong, "a line without an end")
	}
	return strings.TrimRight(string(line), "\r\n"), err
}

func hasBody(status int) bool { return status >= 200 && status != 204 && status != 304 }

// Closed reports whether the other side has closed a connection, or reset it. Nothing is read.
func Closed(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	var n int
	var b [1]byte
	ctlErr := raw.Control(func(fd uintptr) {
		n, _,
			err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return ctlErr != nil || n <= 0 && !errors.Is(err, unix.EAGAIN)
}

// resent reports whether the kernel had to ask again for the connection, or cannot tell. A client that was not given
// the processor for a second has not lost a SYN.
func resent(nc net.Conn) bool {
	t, ok := nc.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return true
	}
	again := true
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			again = info.Total_retrans > 0
		}
	})
	return again
}

// dial connects; how long it took decides on [Late]. The connection can be used even then.
func (c *Client) dial(ctx context.Context) (conn *Conn, took time.Duration, err error) {
	c.local, c.remote = "", ""
	network, address := split(c.cfg.Target)
	c.made = c.begin()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	start := time.Now()
	nc, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
	if err != nil {
		return nil, 0, classify(connecting, err)
	}
	took = time.Since(start)
	again := took > c.cfg.LateAfter && resent(nc)
	c.local, c.remote = nc.LocalAddr().String(), nc.RemoteAddr().String()
	if c.cfg.TLS != nil {
		if nc, err = handshake(ctx, nc, c.cfg.TLS); err != nil {
			return nil, 0, err
		}
	}
	now := time.Now()
	conn = &Conn{Conn: nc, resent: again, made: now, heard: now}
	conn.r = bufio.NewReaderSize(conn, 16<<10)
	return conn, took, nil
}

// handshake makes a connection a TLS one.
func handshake(ctx context.Context, nc net.Conn, cfg *tls.Config) (net.Conn, error) {
	c := tls.Client(nc, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, classify(sending, fmt.Errorf("handshake of %s: %w", nc.LocalAddr(), err))
	}
	return c, nil
}
