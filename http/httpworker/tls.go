package httpworker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"baton/worker"
	"baton/worker/conns"
)

// tlsConfig is what a listener's connections are served with. Its own copy: the ticket keys change.
func (s Settings) tlsConfig(env *worker.Env, sock worker.Socket) (*tls.Config, error) {
	config, ok := s.TLS[sock.Name]
	if !ok {
		config, ok = s.TLS[""]
	}
	if !ok {
		return nil, fmt.Errorf("listener %s: tls without a certificate", listenerName(sock))
	}
	config = config.Clone()
	if config.NextProtos == nil {
		config.NextProtos = []string{protoH2, protoHTTP1}
	}
	env.ShareTickets(config, sock.Name)
	return config, nil
}

// The protocols that TLS clients may choose.
const (
	protoH2    = "h2"
	protoHTTP1 = "http/1.1"
)

// handshake does the handshake and passes the connection on.
func (s *server) handshake(c *conn) {
	if err := c.Handshake(); err != nil {
		refusePlain(err)
		_, _ = c.Abort()
		return
	}
	c.state = c.TLS()
	if c.state.NegotiatedProtocol == protoH2 {
		s.serveH2(c, nil)
		return
	}
	s.inject(c)
}

const notTLS = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
	"Client sent an HTTP request to an HTTPS server.\n"

// refusePlain answers a client that speaks HTTP where TLS is spoken.
func refusePlain(err error) {
	var re tls.RecordHeaderError
	if !errors.As(err, &re) || re.Conn == nil || !looksLikeHTTP(re.RecordHeader) {
		return
	}
	_ = re.Conn.SetDeadline(time.Now().Add(conns.LingerTime))
	_, _ = io.WriteString(re.Conn, notTLS)
	if below, ok := re.Conn.(interface{ CloseWrite() error }); ok {
		_ = below.CloseWrite()
		_, _ = io.Copy(io.Discard, re.Conn)
	}
}

func looksLikeHTTP(record [5]byte) bool {
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO"} {
		if strings.HasPrefix(string(record[:]), method) {
			return true
		}
	}
	return false
}
