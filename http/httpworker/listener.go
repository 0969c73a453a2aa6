package httpworker

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"

	"baton/worker"
)

// listener wraps what it accepts, and counts it from that moment: net/http tracks a connection a little later.
type listener struct {
	net.Listener
	s      *server
	origin origin
}

// origin is the socket that a connection came by.
type origin struct {
	key     worker.ListenerKey
	stays   bool         // its connections do not move to another process
	handler http.Handler // nil: the usual one
	tls     *tls.Config  // nil: there is no TLS
}

// Accept returns the next connection that net/http is to serve. With TLS there is none before its handshake has ended:
// then it comes another way.
func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.origin.tls == nil {
			return l.s.adopt(nc, l.origin)
		}
		l.s.startTLS(nc, l.origin)
	}
}

// adopt makes nc a connection of the server.
func (s *server) adopt(nc net.Conn, from origin) (net.Conn, error) {
	switch nc := nc.(type) {
	case stream:
		c := newTCPConn(nc, s)
		c.origin = from
		s.remember(&c.conn)
		return c, nil
	case socket:
		c := newConn(nc, s, &sending{sock: nc, limit: s.SendTimeout})
		c.origin = from
		s.remember(c)
		return c, nil
	}
	_ = nc.Close()
	return nil, fmt.Errorf("accept: a %T cannot be served", nc)
}
