package conns

import (
	"net"
	"sync"
	"sync/atomic"
)

// Counters count what becomes of connections.
type Counters struct {
	Conns       Count        // open
	Active      atomic.Int64 // requests in progress
	Evicted     atomic.Int64 // closed idle because there was no room for others
	CutRequests atomic.Int64 // by the drain deadline
	CutConns    atomic.Int64 // by the drain deadline, or closed idle at a stop
}

// Count counts the connections that are open. Listeners accept no more of them than there is room for. What comes
// from a listener of worker.Env counts itself, until it is closed.
type Count struct {
	n       atomic.Int64
	waiting atomic.Int32 // those that wait for room

	mu   sync.Mutex
	room chan struct{} // closed when there may be room
}

// Add counts n connections more, or fewer.
func (c *Count) Add(n int64) {
	c.n.Add(n)
	if n < 0 && c.waiting.Load() > 0 {
		c.wake()
	}
}

// Load is how many connections are open.
func (c *Count) Load() int64 { return c.n.Load() }

func (c *Count) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// Watch makes Changed work until stop is called.
func (c *Count) Watch() (stop func()) {
	c.waiting.Add(1)
	return func() { c.waiting.Add(-1) }
}

// Changed is closed when a connection has closed after the call, see Watch.
func (c *Count) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.room == nil {
		c.room = make(chan struct{})
	}
	return c.room
}

// Track counts a connection of package net from now on, until it is closed.
func (c *Count) Track(nc net.Conn) net.Conn {
	switch nc := nc.(type) {
	case *net.TCPConn:
		c.Add(1)
		return &countedTCP{TCPConn: nc, counting: counting{count: c}}
	case *net.UnixConn:
		c.Add(1)
		return &countedUnix{UnixConn: nc, counting: counting{count: c}}
	}
	return nc // listening sockets have no others
}

// counting is one connection of a Count.
type counting struct {
	count *Count
	over  atomic.Bool
}

func (c *counting) end() {
	if !c.over.Swap(true) {
		c.count.Add(-1)
	}
}

type countedTCP struct {
	*net.TCPConn
	counting
}

// Close closes the connection, which counts no more.
func (c *countedTCP) Close() error {
	defer c.end()
	return c.TCPConn.Close()
}

type countedUnix struct {
	*net.UnixConn
	counting
}

// Close closes the connection, which counts no more.
func (c *countedUnix) Close() error {
	defer c.end()
	return c.UnixConn.Close()
}
