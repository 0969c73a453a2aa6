package httpworker

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
)

// readerSize is the size of net/http's buffer for requests.
const readerSize = 4096

// selfTest checks what this package believes of net/http and what no documentation promises: behind a request,
// StateIdle comes before the next Read, and that Read asks for readerSize bytes if nothing of a next request was read
// already, and for k fewer if k bytes were. Without that, no connection may be taken away from net/http.
//
// It takes well below a millisecond.
func selfTest() error {
	const request = "GET / HTTP/1.1\r\nHost: self\r\n\r\n"
	for _, residue := range []string{"", "G", "GET"} {
		asked, err := askedAfter(request + residue)
		if err != nil {
			return fmt.Errorf("httpworker: self-test: %w", err)
		}
		if want := readerSize - len(residue); asked != want {
			return fmt.Errorf("httpworker: self-test: net/http has %d bytes and reads %d, want %d", len(residue), asked,
				want)
		}
	}
	return nil
}

// askedAfter has net/http serve input, which it gets in one Read, and returns how many bytes its first Read after
// StateIdle asks for.
func askedAfter(input string) (int, error) {
	client, server := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, client) }() // until server is closed
	p := &probe{Conn: server, input: input, idle: make(chan struct{}), asked: make(chan int, 1)}
	srv := &http.Server{
		Handler:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ConnState: p.onState,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	_ = srv.Serve(&oneConn{conn: p}) // fails when the connection is taken
	defer func() { _ = srv.Close() }()
	n := <-p.asked
	if n < 0 {
		return 0, errors.New("net/http did not become idle")
	}
	return n, nil
}

// probe is a connection that has input to read once, and then notes how much is asked for once it is idle.
type probe struct {
	net.Conn
	input string
	idle  chan struct{} // closed by StateIdle
	asked chan int      // gets the first Read's size after StateIdle, or -1 if it never came
}

func (p *probe) onState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateIdle:
		close(p.idle)
	case http.StateClosed:
		p.answer(-1)
	case http.StateNew, http.StateActive, http.StateHijacked:
	}
}

func (p *probe) answer(n int) {
	select {
	case p.asked <- n:
	default:
	}
}

func (p *probe) Read(b []byte) (int, error) {
	if p.input != "" {
		n := copy(b, p.input)
		p.input = p.input[n:]
		return n, nil
	}
	select {
	case <-p.idle:
		p.answer(len(b))
		return 0, io.EOF
	default:
		return p.Conn.Read(b) // net/http's background read, until it is aborted
	}
}

// oneConn is a listener with one connection.
type oneConn struct{ conn net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, net.ErrClosed
	}
	c := l.conn
	l.conn = nil
	return c, nil
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "self-test", Net: "unix"} }
