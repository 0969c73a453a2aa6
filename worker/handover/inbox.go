package handover

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// inbox reads the queue, with its own buffers. Unlike seqpacket.Conn it can be stopped, and tells a message whose
// descriptors were cut from a broken one.
type inbox struct {
	conn      *net.UnixConn
	data, oob []byte
}

func (in inbox) receive() (p seqpacket.Packet, cut bool, err error) {
	n, oobn, flags, _, err := in.conn.ReadMsgUnix(in.data, in.oob)
	if err != nil {
		return p, false, err
	}
	if n == 0 {
		return p, false, errors.New("end of file")
	}
	msgs, err := unix.ParseSocketControlMessage(in.oob[:oobn])
	if err != nil {
		return p, false, fmt.Errorf("control message: %w", err)
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			p.FDs = append(p.FDs, fds...)
		}
	}
	p.Frame, err = wire.Decode(in.data[:n])
	if err != nil { // it is nobody's: all of it goes back
		p.Close()
		return p, true, nil
	}
	return p, flags&unix.MSG_CTRUNC != 0, nil
}
