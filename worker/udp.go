package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// UDP is the [Worker] that has a [PacketProcess] answer the datagrams of UDP sockets. A socket is shared by the workers
// of all generations, and the next one reads from it before this one stops.
type UDP struct {
	// Process answers the datagrams.
	Process PacketProcess

	// Protocol says which sockets: those of this [Socket.Process]. Empty: those of which the configuration does not
	// say any.
	Protocol string
}

// Serve has the Process answer until ctx ends, and returns when it has answered what it has read.
func (u UDP) Serve(ctx context.Context, env *Env) error {
	conns, err := u.open(env)
	if err != nil {
		return err
	}
	done := make(chan error, len(conns))
	env.Ready()
	for _, pc := range conns {
		go func() { done <- u.serve(ctx, env, pc) }()
	}
	if len(conns) == 0 {
		<-ctx.Done()
	}
	for range conns {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
		case <-env.Cut():
			return nil
		}
	}
	return nil
}

// open returns the sockets that are for u.
func (u UDP) open(env *Env) ([]net.PacketConn, error) {
	var conns []net.PacketConn
	for _, sock := range env.socketsFor("udp", u.Protocol) {
		pc, err := env.PacketConn(sock.Name)
		if err != nil {
			return nil, fmt.Errorf("udp: %w", err)
		}
		conns = append(conns, counted{pc, env.Counters})
	}
	return conns, nil
}

// serve waits for GO: nobody reads or writes before it.
func (u UDP) serve(ctx context.Context, env *Env, pc net.PacketConn) error {
	defer func() { _ = pc.Close() }()
	select {
	case <-env.Granted():
	case <-ctx.Done():
	}
	err := u.Process.ServePackets(ctx, pc)
	switch drained := env.draining(); {
	case drained && errors.Is(err, net.ErrClosed), drained && err == nil:
		return nil
	case err == nil:
		err = errors.New("returned before the drain")
	}
	return fmt.Errorf("udp: %s: %w", pc.LocalAddr(), err)
}

// counted counts the answers.
type counted struct {
	net.PacketConn
	counters *Counters
}

func (c counted) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(b, to)
	if err == nil {
		c.counters.Requests.Add(1)
	}
	return n, err
}
