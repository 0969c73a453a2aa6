package httpworker

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"

	"baton/http/httpworker/internal/strict"
	"baton/worker"
	"baton/worker/conns"
)

// server is one Serve of a Worker.
type server struct {
	Settings
	*conns.Engine
	env     *worker.Env
	http    *http.Server
	origins []*origin

	arrivals chan net.Conn // to net/http: what did not come by a listener, or had to wait
	ended    chan struct{} // closed when nobody is served any more
}

// origin is the socket that a connection came by.
type origin struct {
	conns.Listener
	ln      net.Listener
	handler http.Handler // nil: the usual one
}

type connKey struct{}

func newServer(ctx context.Context, settings Settings, env *worker.Env) *server {
	s := &server{Settings: settings, env: env, arrivals: make(chan net.Conn), ended: make(chan struct{})}
	s.Engine = conns.New(ctx, env.ConnConfig(conns.Config{
		Limits: conns.Limits{
			Idle: settings.IdleTimeout, Message: settings.ReceiveTimeout, Body: settings.BodyTimeout,
			Send: settings.SendTimeout,
		},
		FullRead: readerSize,
		Pool:     true,
		Serve:    s.arrive,
	}))
	s.http = &http.Server{
		Handler:        s,
		MaxHeaderBytes: settings.MaxHeaderSize + readerSize, // never reached: the exact limit is the connection's
		ErrorLog:       log.New(errorLog{env.Log}, "", 0),
		ConnState:      func(nc net.Conn, state http.ConnState) { connOf(nc).onState(state) },
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connOf(nc))
		},
		DisableGeneralOptionsHandler: true, // it would bypass Handler
		Protocols:                    new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	return s
}

// serve accepts until the drain begins, and returns when no connection is left or all have been cut.
func (s *server) serve() error {
	defer func() { _ = s.http.Close() }()
	defer close(s.ended)
	go func() { _ = s.http.Serve(&arrivalListener{arrivals: s.arrivals, ended: s.ended}) }()
	var accept []func() error
	for _, o := range s.origins {
		accept = append(accept, func() error { return s.accept(o) })
	}
	return s.Run(accept...)
}

// accept serves one listener until it ends, as drains make it, or breaks.
func (s *server) accept(o *origin) error {
	err := s.http.Serve(&listener{Listener: o.ln, s: s, origin: o})
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	s.env.Log.Error("http: accept", "address", o.ln.Addr(), "error", err)
	return err
}

// listener makes what it accepts the engine's, from that moment on: net/http tracks a connection a little later.
type listener struct {
	net.Listener
	s      *server
	origin *origin
}

// Accept returns the next connection that net/http is to serve. With TLS there is none before its handshake has ended:
// then it comes another way.
func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, err := l.s.adopt(nc, l.origin)
		if err != nil {
			return nil, err
		}
		if l.origin.TLS == nil {
			return c, nil
		}
		go l.s.handshake(c)
	}
}

// adopt makes nc a connection of the server.
func (s *server) adopt(nc net.Conn, o *origin) (*conn, error) {
	c := &conn{s: s, origin: o, scan: strict.Scanner{Max: s.MaxHeaderSize}}
	if err := s.Add(&c.Conn, nc, &o.Listener, c); err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	return c, nil
}

// arrive goes on with a connection that has waited elsewhere.
func (s *server) arrive(nc net.Conn, from *conns.Listener) {
	for _, o := range s.origins {
		if &o.Listener != from {
			continue
		}
		if c, err := s.adopt(nc, o); err == nil {
			s.inject(c)
		}
	}
}

// inject gives a connection to net/http's HTTP/1 server.
func (s *server) inject(c *conn) {
	select {
	case s.arrivals <- c:
	case <-s.ended:
		c.Abort()
	}
}

// arrivalListener is what is injected as net/http's listener.
type arrivalListener struct {
	arrivals <-chan net.Conn
	ended    <-chan struct{}
}

// Accept returns the next connection that has something to read.
func (a *arrivalListener) Accept() (net.Conn, error) {
	select {
	case c := <-a.arrivals:
		return c, nil
	case <-a.ended:
		return nil, net.ErrClosed
	}
}

// Close does nothing: Accept ends with the server.
func (a *arrivalListener) Close() error { return nil }

// Addr is nobody's.
func (a *arrivalListener) Addr() net.Addr { return &net.UnixAddr{Name: "handover", Net: "unix"} }
