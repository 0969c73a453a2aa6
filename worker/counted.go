package worker

import (
	"net"
	"sync/atomic"

	"baton/worker/handover"
)

// counting makes a connection one of Counters.Conns until it is closed. It can do all that the connection in it can.
type counting struct {
	env  *Env
	over atomic.Bool
}

func (c *counting) end() {
	if !c.over.Swap(true) {
		c.env.Counters.Conns.Add(-1)
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

// count counts a connection from now on.
func (e *Env) count(nc net.Conn) net.Conn {
	switch nc := nc.(type) {
	case *net.TCPConn:
		e.Counters.Conns.Add(1)
		return &countedTCP{TCPConn: nc, counting: counting{env: e}}
	case *net.UnixConn:
		e.Counters.Conns.Add(1)
		return &countedUnix{UnixConn: nc, counting: counting{env: e}}
	}
	return nc // listening sockets have no others
}

// Open makes a connection of one that another worker has given, see [handover.Conn.Open]. Like those of Listener it counts
// until it is closed.
func (e *Env) Open(c handover.Conn) (net.Conn, error) {
	nc, err := c.Open()
	if err != nil {
		return nil, err
	}
	return e.count(nc), nil
}
