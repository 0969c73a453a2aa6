package master

import (
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// An extra socket of a slot that has gone gets no new connection, but handshakes that had begun end there. When the
// kernel has given up the last of them, and all of them are accepted, the socket is closed: there are not more sockets
// than the slots of the last minute need.

// handshakeLife is how long a handshake may last: net.ipv4.tcp_synack_retries is 5, which makes 63 seconds.
const handshakeLife = 70 * time.Second

// noteQuiet notes since when a socket gets no new connections, for the next masters as well.
func (m *master) noteQuiet(s *sock, quiet bool) {
	switch {
	case quiet == (s.Quiet != 0):
		return
	case quiet:
		s.Quiet = monotime.Now()
	default:
		s.Quiet = 0
	}
	m.store(s.entry(), s.sockRecord, -1)
}

// closeQuiet closes the extra sockets whose time has come, and returns when to look again. It leaves all as they are
// while a successor starts, which has counted them.
func (m *master) closeQuiet(now monotime.Time) (next monotime.Time) {
	if m.phase != phaseCurrent || m.upgrading != "" {
		return 0
	}
	retired := false
	for i := 0; i < len(m.sockets); {
		s := m.sockets[i]
		due := s.Quiet.Add(handshakeLife)
		switch {
		case !s.extra || s.Quiet == 0 || s.Passed != "":
		case due > now:
			next = monotime.Earliest(next, due)
		case acceptQueue(s.fd) > 0:
			next = monotime.Earliest(next, now.Add(time.Second))
		default:
			m.retireSocket(i)
			retired = true
			continue
		}
		i++
	}
	if retired {
		m.steer()
		m.serving() // there are fewer for systemd to keep
	}
	return next
}

// retireSocket ends a socket for all processes that hold it. In the kernel's list the last one on the address takes its
// place.
func (m *master) retireSocket(i int) {
	s := m.sockets[i]
	m.sockets = append(m.sockets[:i:i], m.sockets[i+1:]...)
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	if all := m.listeningByAddress()[s.address()]; len(all) > 0 {
		if last := all[len(all)-1]; last.Order > s.Order {
			last.Order = s.Order
			m.store(last.entry(), last.sockRecord, -1)
		}
	}
	for _, p := range m.procs {
		if p.Generation == m.gen {
			_ = p.conn.Post(wire.RemoveSocket{Key: s.key})
			delete(p.given, s.key)
		}
	}
	m.drop(s)
}

// acceptQueue is how many connections wait in a listening socket.
func acceptQueue(fd int) int {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int(info.Unacked)
}
