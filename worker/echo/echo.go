// Package echo is the protocol that says everything back, on connections and in datagrams.
package echo

import (
	"context"
	"net"

	"baton/worker"
)

// Process echoes. It is a [worker.Process]: what was read is written at once, so that between two reads the connection
// may always move to the next generation. It is a [worker.PacketProcess] as well.
type Process struct{}

var (
	_ worker.Process       = Process{}
	_ worker.PacketProcess = Process{}
)

// Sizes of the buffers.
const (
	chunk    = 16 << 10
	datagram = 64 << 10 // no datagram is larger
)

// ServeConn echoes until the client has said all.
func (Process) ServeConn(_ context.Context, c *worker.Conn) {
	buf := make([]byte, chunk)
	for {
		c.Idle()
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// ServePackets sends every datagram back to where it came from. That an answer cannot be sent is nobody's trouble but
// its client's.
func (Process) ServePackets(_ context.Context, pc net.PacketConn) error {
	buf := make([]byte, datagram)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return err
		}
		_, _ = pc.WriteTo(buf[:n], from)
	}
}
