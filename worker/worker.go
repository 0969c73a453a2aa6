package worker

import (
	"context"
	"net"
)

// A Worker serves the sockets of a worker process: [TCP], [TLS], [UDP], several of them as a
// [Group], and httpworker.Worker, which takes its connections itself. Run calls its Serve, once, in every worker
// process.
//
// Serve takes all its sockets from env, prepares, calls env.Ready, and works until ctx ends. A process that is ready
// and has left a socket out fails: clients would wait there for ever. When ctx has ended, Serve takes nothing new,
// finishes what it has begun, and returns nil. Listeners that come from env stop by themselves: their Accept returns
// [net.ErrClosed] once ctx has ended. What is left at env.Deadline is cut: Serve must count its requests in
// env.Counters, drop it, and return; a process that is still there a second later is killed. Connections of env's
// listeners count by themselves, also as cut if they are open when Serve returns.
//
// Returning before ctx ends counts as a crash, and so does a panic.
//
// Serve is called once, on a goroutine of its own, in a process of its own.
type Worker interface {
	Serve(ctx context.Context, env *Env) error
}

// Func is a function that is a [Worker].
type Func func(ctx context.Context, env *Env) error

// Serve calls f.
func (f Func) Serve(ctx context.Context, env *Env) error { return f(ctx, env) }

// A Process is a protocol that is spoken on connections, however they arrive. [TCP] and [TLS] call it; package echo has
// one.
type Process interface {
	// ServeConn speaks with one client until either has had enough, and returns. The connection is closed then, so
	// that what was written arrives.
	//
	// ctx ends when the drain begins: ServeConn is to finish what it has begun. It may then return as soon as its
	// protocol allows it; it may go on until its client closes, at the latest until the drain deadline, which
	// closes the connection and counts it; or it says [Conn.Idle] between two messages, and the connection moves to
	// the next generation, where another ServeConn goes on with it.
	//
	// ServeConn is called on a goroutine for each connection. A panic closes the connection and is logged.
	ServeConn(ctx context.Context, c *Conn)
}

// ProcessFunc is a function that is a [Process].
type ProcessFunc func(ctx context.Context, c *Conn)

// ServeConn calls f.
func (f ProcessFunc) ServeConn(ctx context.Context, c *Conn) { f(ctx, c) }

// A PacketProcess is a protocol that is spoken in datagrams. [UDP] calls it; package echo has one.
type PacketProcess interface {
	// ServePackets reads datagrams and answers them until ReadFrom fails, which it does with [net.ErrClosed] when the
	// drain has begun, just as ctx has ended. The next generation reads from the same socket by then: what was read
	// here is answered here, and so WriteTo works until ServePackets has returned. An error that is not
	// net.ErrClosed, or a return before the drain, fails the worker.
	//
	// ServePackets is called once for each socket, on a goroutine of its own.
	ServePackets(ctx context.Context, pc net.PacketConn) error
}
