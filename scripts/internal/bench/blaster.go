package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// blaster is a client that costs as little as it can, because it shares the machine with what it measures: one thread,
// epoll, and a buffer for each connection.
type blaster struct {
	epoll   int
	to      unix.SockaddrInet4
	request []byte
	kept    bool
	conns   map[int32]*flight
	times   []time.Duration
}

// flight is a request under way.
type flight struct {
	sent  bool
	got   []byte
	begun time.Time // it, or the connection if that is its own
}

// blast is what came of many requests.
type blast struct {
	times []time.Duration // of each answer, the shortest first
	took  time.Duration   // all of it
}

// rate is how many answers came in a second.
func (b *blast) rate() float64 { return float64(len(b.times)) / b.took.Seconds() }

// quantile is the time that the share q of the answers did not exceed.
func (b *blast) quantile(q float64) time.Duration {
	return b.times[min(int(q*float64(len(b.times))), len(b.times)-1)]
}

// sendRequests sends as many as are answered.
func sendRequests(address string, kept bool, span time.Duration) (blast, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return blast{}, err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return blast{}, err
	}
	defer unix.Close(epoll)
	b := &blaster{
		epoll: epoll, kept: kept, conns: map[int32]*flight{}, times: make([]time.Duration, 0, 1<<18),
		to:      unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()},
		request: []byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
	}
	if kept {
		b.request = []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	defer func() {
		for fd := range b.conns {
			unix.Close(int(fd))
		}
	}()
	for range clients {
		if err := b.connect(); err != nil {
			return blast{}, err
		}
	}
	took, err := b.run(span)
	slices.Sort(b.times)
	return blast{b.times, took}, err
}

func (b *blaster) run(span time.Duration) (time.Duration, error) {
	events := make([]unix.EpollEvent, clients)
	start := time.Now()
	for time.Since(start) < span {
		n, err := unix.EpollWait(b.epoll, events, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		for _, e := range events[:max(0, n)] {
			if err := b.handle(e.Fd); err != nil {
				return 0, err
			}
		}
	}
	if len(b.times) == 0 {
		return 0, errors.New("no answers")
	}
	return time.Since(start), nil
}

func (b *blaster) connect() error {
	begun := time.Now()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &b.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	b.conns[int32(fd)] = &flight{got: make([]byte, 0, 1024), begun: begun}
	return b.watch(unix.EPOLL_CTL_ADD, int32(fd), unix.EPOLLOUT)
}

func (b *blaster) watch(op int, fd int32, events uint32) error {
	return unix.EpollCtl(b.epoll, op, int(fd), &unix.EpollEvent{Events: events, Fd: fd})
}

// handle does the next step of a connection that can go on.
func (b *blaster) handle(fd int32) error {
	f := b.conns[fd]
	if !f.sent {
		if err := b.send(fd, f); err != nil {
			return err
		}
		return b.watch(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN)
	}
	n, err := unix.Read(int(fd), f.got[len(f.got):cap(f.got)])
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	if err != nil {
		return err
	}
	f.got = f.got[:len(f.got)+n]
	if b.kept {
		if n == 0 {
			return errors.New("a kept connection was closed")
		}
		if !whole(f.got) {
			return nil
		}
		b.times = append(b.times, time.Since(f.begun))
		f.got, f.begun = f.got[:0], time.Now()
		return b.send(fd, f)
	}
	if n > 0 {
		return nil
	}
	if !whole(f.got) {
		return fmt.Errorf("closed after %q", f.got)
	}
	b.times = append(b.times, time.Since(f.begun))
	delete(b.conns, fd)
	unix.Close(int(fd))
	return b.connect()
}

func (b *blaster) send(fd int32, f *flight) error {
	f.sent = true
	_, err := unix.Write(int(fd), b.request) // some 40 bytes: they fit
	return err
}

// whole says that there is an answer from its status to its end. The answers of both sides end with a line feed.
func whole(got []byte) bool {
	return bytes.HasPrefix(got, []byte("HTTP/1.1 200 ")) && bytes.HasSuffix(got, []byte("}\n"))
}
