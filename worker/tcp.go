package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
)

// TCP is the [Worker] that accepts connections on TCP and Unix sockets and has a [Process] speak on each of them.
//
// What a drain does: accepting stops. Connections whose Process says [Conn.Idle] move to the next generation; with
// handover = false, or when nobody takes them, they go on like all others, until their client closes or their Process
// returns. What is left at the drain deadline is cut and counted. When the whole program stops, a connection that is
// idle is closed after a second.
type TCP struct {
	// Process is spoken on every connection.
	Process Process

	// Protocol says which sockets: those of this [Socket.Process]. Empty: those of which the configuration does not
	// say any, which is what master.Main makes.
	Protocol string
}

// Serve accepts until ctx ends, and returns when no connection is left or all have been cut.
func (t TCP) Serve(ctx context.Context, env *Env) error {
	s := newStreams(ctx, env, t.Process)
	for _, sock := range env.socketsFor("tcp", t.Protocol) {
		if err := s.add(sock, nil); err != nil {
			return fmt.Errorf("tcp: %w", err)
		}
	}
	return s.serve()
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
	s := newStreams(ctx, env, t.Process)
	for _, sock := range env.socketsFor("tls", t.Protocol) {
		cfg, err := t.Config(env, sock)
		if err == nil && cfg == nil {
			err = errors.New("no config")
		}
		if err != nil {
			return fmt.Errorf("tls: listener %s: %w", sock.Name, err)
		}
		cfg = cfg.Clone()
		env.ShareTickets(cfg, sock.Name)
		if err := s.add(sock, func(nc net.Conn) net.Conn { return tls.Server(nc, cfg) }); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
	}
	return s.serve()
}

// socketsFor are those that a Worker of this package is for.
func (e *Env) socketsFor(transport, protocol string) []Socket {
	return slices.DeleteFunc(e.Sockets(), func(s Socket) bool { return s.Transport != transport || s.Process != protocol })
}
