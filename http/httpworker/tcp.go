package httpworker

import (
	"io"
	"net"
)

// tracked is a connection of this package, whatever it is wrapped in.
type tracked interface{ tracked() *conn }

func (c *conn) tracked() *conn { return c }

// connOf finds the conn in what net/http calls the connection.
func connOf(nc net.Conn) *conn {
	return nc.(tracked).tracked() //nolint:forcetypeassert // net/http serves nothing else
}

// stream is a TCP connection: a *net.TCPConn.
type stream interface {
	socket
	io.ReaderFrom
	io.WriterTo
}

// tcpConn is a conn that can do what a TCP connection can: net/http asks for ReadFrom to use sendfile.
type tcpConn struct {
	conn
	tcp     stream
	sending sending
}

func newTCPConn(tcp stream, s *server) *tcpConn {
	c := &tcpConn{tcp: tcp, sending: sending{sock: tcp, limit: s.SendTimeout}}
	c.socket, c.s, c.clock.sock, c.out = tcp, s, tcp, &c.sending
	return c
}

// ReadFrom writes what it reads from r, without a copy through this process if it is a file.
func (c *tcpConn) ReadFrom(r io.Reader) (int64, error) {
	if isFile(r) {
		return c.out.send(c.tcp, r)
	}
	return io.Copy(struct{ io.Writer }{&c.conn}, r)
}

// WriteTo writes the rest of a hijacked connection to w.
func (c *tcpConn) WriteTo(w io.Writer) (int64, error) {
	n, err := c.writeHeld(w)
	if err != nil {
		return n, err
	}
	m, err := c.tcp.WriteTo(w)
	return n + m, err
}

func (c *conn) writeHeld(w io.Writer) (int64, error) {
	c.mu.Lock()
	held := c.held
	c.held = nil
	c.mu.Unlock()
	if len(held) == 0 {
		return 0, nil
	}
	n, err := w.Write(held)
	return int64(n), err
}
