package worker

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/sock"
	"baton/worker/wire"
)

// receiveSetup waits for the master's first messages and makes an Env of them. io.EOF: the attempt has failed already.
func receiveSetup(conn *seqpacket.Conn, sink *logsink.Sink) (*Env, error) {
	var s wire.Setup
	p, err := receive(conn, &s)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	want := len(s.Listeners) + 2
	if s.HangTimeout > 0 {
		want++
	}
	if len(p.FDs) != want {
		return nil, fmt.Errorf("setup: %d descriptors, want %d", len(p.FDs), want)
	}
	env := newEnv(s, logsink.Logger(sink, s.Log).With("generation", s.Generation, "slot", s.Slot))
	if err := env.openMemory(p.TakeFD(), p.TakeFD(), s.Payload); err != nil {
		return nil, err
	}
	env.addSockets(s.Listeners, &p)
	if s.HangTimeout > 0 {
		env.heartbeat.open(p.TakeFD(), s.Heart, s.HangTimeout)
	}
	for more := s.More; more; {
		if more, err = receiveSockets(conn, env); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// receiveSockets waits for more of the setup, and reports whether another message follows.
func receiveSockets(conn *seqpacket.Conn, env *Env) (more bool, err error) {
	var s wire.Sockets
	p, err := receive(conn, &s)
	if err != nil {
		return false, err
	}
	defer p.Close()
	if len(p.FDs) != len(s.Listeners) {
		return false, fmt.Errorf("setup: %d descriptors more, want %d", len(p.FDs), len(s.Listeners))
	}
	env.addSockets(s.Listeners, &p)
	env.paths = append(env.paths, s.Paths...)
	return s.More, nil
}

// receive waits for a message of m's kind and this program's version. The descriptors that come along are the caller's.
func receive(conn *seqpacket.Conn, m wire.Message) (seqpacket.Packet, error) {
	p, err := conn.Recv()
	if err != nil {
		return seqpacket.Packet{}, err
	}
	if err := p.Frame.Expect(m); err != nil {
		p.Close()
		return seqpacket.Packet{}, err
	}
	return p, nil
}

// openMemory reads the payload and joins the balance. It takes the descriptors of their memory files.
func (e *Env) openMemory(payload, balance, size int) (err error) {
	defer func() { _, _ = unix.Close(payload), unix.Close(balance) }()
	if e.payload, err = readMemory(payload, size); err != nil {
		return fmt.Errorf("setup: payload: %w", err)
	}
	if e.balance, err = sock.OpenBalance(balance, e.slot); err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	return nil
}

// readMemory reads a memory file from its beginning, whatever offset its other holders have left.
func readMemory(fd, size int) ([]byte, error) {
	b := make([]byte, size)
	for n := 0; n < size; {
		m, err := unix.Pread(fd, b[n:], int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case m == 0:
			return nil, io.ErrUnexpectedEOF
		default:
			n += m
		}
	}
	return b, nil
}

func (e *Env) addSockets(listeners []wire.Listener, p *seqpacket.Packet) {
	for _, l := range listeners {
		e.addSocket(l, p.TakeFD())
	}
}
