package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"

	"baton/worker/conns"
)

// TCP is the [Worker] that accepts connections on TCP and Unix sockets and has a [Process] speak on each of them.
//
// What a drain does: accepting stops. Connections whose Process says [Conn.Idle] move to the next generation; with
// handover = false, or when nobody takes them, they go on like all others, until their client closes or their Process
// returns. What is left at the drain deadline is cut and counted. When the whole program stops, a connection that is
// idle is closed after a second. When there is no room for another one, those are closed that have been idle for
// longest.
type TCP struct {
	// Process is spoken on every connection.
	Process Process

	// Protocol says which sockets: those of this [Socket.Process]. Empty: those of which the configuration does not
	// say any, which is what master.Main makes.
	Protocol string
}

// Serve accepts until ctx ends, and returns when no connection is left or all have been cut.
func (t TCP) Serve(ctx context.Context, env *Env) error {
	plain := func(Socket) (*tls.Config, error) { return nil, nil }
	return serveConns(ctx, env, t.Process, env.socketsFor("tcp", t.Protocol), plain)
}

// TLS is [TCP] with encryption: the Process speaks after the handshake. Its connections never move, because the keys
// are in the process that made them.
type TLS struct {
	// Process and Protocol are as in TCP.
	Process  Process
	Protocol string

	// Config returns what the handshakes of a socket need; keys of session tickets, which all workers have in common,
	// are added to a copy of it. Required.
	//
	// Threading: called for each socket before the worker is ready, on Serve's goroutine. Its error fails the worker.
	Config func(env *Env, s Socket) (*tls.Config, error)
}

// Serve does as [TCP.Serve].
func (t TLS) Serve(ctx context.Context, env *Env) error {
	return serveConns(ctx, env, t.Process, env.socketsFor("tls", t.Protocol), func(s Socket) (*tls.Config, error) {
		cfg, err := t.Config(env, s)
		if err == nil && cfg == nil {
			err = errors.New("no config")
		}
		if err != nil {
			return nil, fmt.Errorf("tls: listener %s: %w", s.Name, err)
		}
		cfg = cfg.Clone()
		env.ShareTickets(cfg, s.Name)
		return cfg, nil
	})
}

// socketsFor are those that a Worker of this package is for.
func (e *Env) socketsFor(transport, protocol string) []Socket {
	return slices.DeleteFunc(e.Sockets(), func(s Socket) bool {
		return s.Transport != transport || s.Process != protocol
	})
}

// connServer has a Process speak on the connections of an engine.
type connServer struct {
	*conns.Engine
	ctx     context.Context
	env     *Env
	process Process
}

func serveConns(
	ctx context.Context, env *Env, p Process, sockets []Socket, config func(Socket) (*tls.Config, error),
) error {
	s := &connServer{ctx: ctx, env: env, process: p}
	s.Engine = conns.New(ctx, env.ConnConfig(conns.Config{
		Serve: func(nc net.Conn, from *conns.Listener) { s.start(nc, from, true) },
	}))
	var accept []func() error
	for _, sock := range sockets {
		cfg, err := config(sock)
		if err != nil {
			return err
		}
		ln, err := env.Listener(sock.Name)
		if err != nil {
			return err
		}
		from := &conns.Listener{Key: sock.Key, Moves: sock.Handover && cfg == nil, TLS: cfg}
		if err := s.Listen(from); err != nil {
			return err
		}
		accept = append(accept, func() error { return s.accept(ln, from) })
	}
	env.OnFull(s.Evict)
	env.OnShare(s.Share)
	env.Ready()
	return s.Run(accept...)
}

// accept serves one listener until it ends, as drains make it, or breaks.
func (s *connServer) accept(ln net.Listener, from *conns.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		s.start(nc, from, false)
	}
}

// start has the Process speak on a connection. moved says that it has done so before, in another worker.
func (s *connServer) start(nc net.Conn, from *conns.Listener, moved bool) {
	c := &conns.Conn{}
	if err := s.Add(c, nc, from, nil); err != nil {
		s.env.Log.Error("worker: accept", "error", err)
		return
	}
	go s.run(c, moved)
}

func (s *connServer) run(c *conns.Conn, moved bool) {
	defer c.Linger(conns.LingerTime, conns.LingerTime)
	defer func() {
		if r := recover(); r != nil {
			s.env.Log.Error("worker: panic", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	if c.Handshake() != nil {
		return
	}
	c.Greet()
	s.process.ServeConn(s.ctx, &Conn{Conn: c, requests: &s.env.Counters.Requests, moved: moved})
}
